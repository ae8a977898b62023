#include "http_server.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "notices.hpp"

namespace edgefer::app {
namespace {

constexpr std::size_t kMostConnections = 32;
constexpr std::size_t kLongestRequest = 8192;
constexpr int kSilentMilliseconds = 30'000;
constexpr std::array kLocal{"127.0.0.1", "localhost", "::1"};

bool is_local(const std::string& host) { return std::find(kLocal.begin(), kLocal.end(), host) != kLocal.end(); }

[[noreturn]] void refuse(const std::string& host, int port, int cause) {
  const std::string number = std::to_string(port);
  if (cause == EADDRINUSE) {
    throw Error("port " + number + " of " + host + " is in use",
                "another program serves there; try --serve " + std::to_string(port + 1));
  }
  if (cause == EACCES) throw Error("port " + number + " may not be opened by this user", "take one above 1023");
  throw Error("cannot listen on " + host + ": " + std::strerror(cause),
              "--host 127.0.0.1 is this machine only, --host 0.0.0.0 every network it is in");
}

int open_socket(const std::string& host, int port) {
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), std::to_string(port).c_str(), &wanted, &found) != 0) refuse(host, port, EADDRNOTAVAIL);
  const int made = socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC, found->ai_protocol);
  const int yes = 1;
  int fault = made < 0 ? errno : 0;
  if (fault == 0) setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (fault == 0 && (bind(made, found->ai_addr, found->ai_addrlen) != 0 || listen(made, 16) != 0)) fault = errno;
  freeaddrinfo(found);
  if (fault != 0) {
    if (made >= 0) ::close(made);
    refuse(host, port, fault);
  }
  return made;
}

int port_of(int socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  char service[16] = "0";
  getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length);
  getnameinfo(reinterpret_cast<sockaddr*>(&address), length, nullptr, 0, service, sizeof service, NI_NUMERICSERV);
  return std::stoi(service);
}

/// The request's lines, or nothing if it is too long, too slow or cut short.
std::optional<std::string> read_request(int socket) {
  std::string request;
  while (request.find("\r\n\r\n") == std::string::npos) {
    pollfd readable{socket, POLLIN, 0};
    char part[1024];
    if (request.size() > kLongestRequest || poll(&readable, 1, kSilentMilliseconds) != 1) return std::nullopt;
    const auto count = recv(socket, part, sizeof part, 0);
    if (count <= 0) return std::nullopt;
    request.append(part, static_cast<std::size_t>(count));
  }
  return request;
}

/// The value of the header `Host`, without port and brackets, in small letters.
std::string host_of(const std::string& request) {
  std::string small = request;
  std::transform(small.begin(), small.end(), small.begin(), [](unsigned char c) { return std::tolower(c); });
  const std::string key = "\r\nhost:";
  const auto at = small.find(key);
  if (at == std::string::npos) return "";
  auto host = small.substr(at + key.size(), small.find("\r\n", at + 2) - at - key.size());
  const auto colon = host.rfind(':');
  if (colon != std::string::npos && host.find(']', colon) == std::string::npos) host.erase(colon);
  host.erase(std::remove_if(host.begin(), host.end(), [](char c) { return c == ' ' || c == '[' || c == ']'; }),
             host.end());
  return host;
}

}  // namespace

bool Visitor::send(const void* bytes, std::size_t count) const {
  const char* from = static_cast<const char*>(bytes);
  while (count > 0) {
    const auto sent = ::send(socket_, from, count, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    from += sent;
    count -= static_cast<std::size_t>(sent);
  }
  return true;
}

bool Visitor::answer(const std::string& status, const std::string& kind, const std::string& content) const {
  return send("HTTP/1.1 " + status + "\r\nContent-Type: " + kind +
              "\r\nContent-Length: " + std::to_string(content.size()) +
              "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer"
              "\r\nConnection: close\r\n\r\n") &&
         send(content);
}

HttpServer::HttpServer(const std::string& host, int port, Handler handler) : host_(host), handler_(std::move(handler)) {
  listening_ = open_socket(host, port);
  port_ = port_of(listening_);
  if (pipe(wake_) != 0) {
    ::close(listening_);
    throw Error(std::string("cannot serve: ") + std::strerror(errno), "close other programs");
  }
  thread_ = std::thread([this] { accept_all(); });
}

HttpServer::~HttpServer() { close(); }

void HttpServer::close() {
  if (!thread_.joinable()) return;
  while (write(wake_[1], "", 1) < 0 && errno == EINTR) {
  }
  thread_.join();
  reap(true);
  for (const int descriptor : {listening_, wake_[0], wake_[1]}) ::close(descriptor);
}

std::string HttpServer::address() const {
  const bool six = host_.find(':') != std::string::npos;
  const std::string name = six ? "[" + host_ + "]" : is_local(host_) ? "localhost" : host_;
  return "http://" + name + ":" + std::to_string(port_) + "/";
}

void HttpServer::accept_all() {
  while (true) {
    std::array<pollfd, 2> watched{{{listening_, POLLIN, 0}, {wake_[0], POLLIN, 0}}};
    if (poll(watched.data(), watched.size(), -1) < 0 && errno != EINTR) return;
    if (watched[1].revents != 0) return;
    if (watched[0].revents == 0) continue;
    const int socket = accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket >= 0) welcome(socket);
  }
}

void HttpServer::welcome(int socket) {
  reap(false);
  if (connections_.size() >= kMostConnections) {
    ::close(socket);
    return;
  }
  const timeval patience{10, 0};  // a visitor that takes nothing for so long is gone
  setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  Connection& connection = connections_.emplace_back();
  connection.socket = socket;
  connection.thread = std::thread([this, &connection] {
    serve(connection);
    shutdown(connection.socket, SHUT_RDWR);
    connection.done = true;
  });
}

void HttpServer::serve(Connection& connection) const {
  const Visitor visitor(connection.socket);
  const auto request = read_request(connection.socket);
  if (!request) return;
  const std::string line = request->substr(0, request->find("\r\n"));
  const auto first = line.find(' '), second = line.find(' ', first + 1);
  if (second == std::string::npos) {
    visitor.answer("400 Bad Request", "text/plain", "this is no HTTP request\n");
  } else if (!is_for_us(*request)) {
    visitor.answer("403 Forbidden", "text/plain", "this server is for localhost\n");
  } else if (line.compare(0, first, "GET") != 0) {
    visitor.answer("405 Method Not Allowed", "text/plain", "there is only GET\n");
  } else {
    handler_(line.substr(first + 1, second - first - 1), visitor);
  }
}

bool HttpServer::is_for_us(const std::string& request) const { return !is_local(host_) || is_local(host_of(request)); }

void HttpServer::reap(bool all) {
  for (auto connection = connections_.begin(); connection != connections_.end();) {
    if (!all && !connection->done) {
      ++connection;
      continue;
    }
    shutdown(connection->socket, SHUT_RDWR);
    connection->thread.join();
    ::close(connection->socket);
    connection = connections_.erase(connection);
  }
}

}  // namespace edgefer::app
