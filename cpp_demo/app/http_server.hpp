// A small HTTP server for a page and a stream: nothing to install on a device, nothing phones home.
//
// It is for a laptop and a lab network: it listens on this machine only unless a host is named, answers GET of known
// paths, and refuses requests that a foreign page's name led here.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <string>
#include <thread>

namespace edgefer::app {

/// One visitor. Sending fails once the visitor or the server is gone.
class Visitor {
 public:
  explicit Visitor(int socket) : socket_(socket) {}

  /// Send everything; false if that is not possible any more.
  bool send(const void* bytes, std::size_t count) const;
  bool send(const std::string& text) const { return send(text.data(), text.size()); }

  /// Send a whole answer, after which the connection is closed.
  bool answer(const std::string& status, const std::string& kind, const std::string& content) const;

 private:
  int socket_;
};

/// A thread a connection, up to a number; more are turned away at once.
class HttpServer {
 public:
  /// Answers a GET of `path`; called in the visitor's own thread.
  using Handler = std::function<void(const std::string& path, const Visitor& visitor)>;

  /// Listen on `host`:`port` (0: any free one). Throws Error: the port is in use, or the host is none of this machine.
  HttpServer(const std::string& host, int port, Handler handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// End all connections and give the port back. The handler must return once sending fails.
  void close();

  /// What to type into a browser.
  std::string address() const;
  int port() const { return port_; }

 private:
  struct Connection {
    int socket;
    std::atomic<bool> done{false};
    std::thread thread;
  };

  void accept_all();
  void welcome(int socket);
  void serve(Connection& connection) const;
  bool is_for_us(const std::string& request) const;
  void reap(bool all);

  const std::string host_;
  const Handler handler_;
  int port_ = 0;
  int listening_ = -1;
  int wake_[2] = {-1, -1};
  std::list<Connection> connections_;  // of the accepting thread, and of close() once that has ended
  std::thread thread_;
};

}  // namespace edgefer::app
