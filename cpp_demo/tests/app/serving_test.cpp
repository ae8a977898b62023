#include <chrono>
#include <thread>

#include <netinet/in.h>
#include <sys/socket.h>

#include "frame.hpp"
#include "http_server.hpp"
#include "sink.hpp"
#include "support.hpp"

using namespace edgefer::app;
using support::contains;

namespace {

/// A connection to a port of this machine.
class Client {
 public:
  explicit Client(int port) : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    const timeval patience{5, 0};
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }
  ~Client() { close(socket_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  Client& say(const std::string& text) {
    REQUIRE(::send(socket_, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size()));
    return *this;
  }
  /// What comes until `end`, or until the connection is closed.
  std::string hear(const std::string& end = "\r\n\r\n\r\n") {
    char part[4096];
    for (ssize_t count = 1; !contains(heard_, end);) {
      count = recv(socket_, part, sizeof part, 0);
      if (count <= 0) break;
      heard_.append(part, static_cast<std::size_t>(count));
    }
    return heard_;
  }

 private:
  int socket_;
  std::string heard_;
};

std::string get(int port, const std::string& path, const std::string& host = "localhost") {
  return Client(port).say("GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n").hear();
}

void hello(const std::string& path, const Visitor& visitor) { visitor.answer("200 OK", "text/plain", "hello " + path); }

}  // namespace

TEST_CASE("a server answers, and only what is for it") {
  HttpServer server("127.0.0.1", 0, hello);
  const int port = server.port();
  CHECK(contains(get(port, "/a"), "\r\n\r\nhello /a"));
  CHECK(contains(get(port, "/a", "localhost:" + std::to_string(port)), "hello"));
  CHECK(contains(get(port, "/a", "[::1]:80"), "hello"));
  CHECK(contains(get(port, "/a", "evil.example"), "403 Forbidden"));
  CHECK(contains(Client(port).say("GET / HTTP/1.1\r\n\r\n").hear(), "403 Forbidden"));
  CHECK(contains(Client(port).say("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n").hear(), "405 Method"));
  CHECK(contains(Client(port).say("nonsense\r\n\r\n").hear(), "400 Bad Request"));
  CHECK(Client(port).say(std::string(20'000, 'x')).hear().empty());
  CHECK(server.address() == "http://localhost:" + std::to_string(port) + "/");
}

TEST_CASE("more visitors than there is room for are turned away, and a visitor who goes makes room") {
  HttpServer server("127.0.0.1", 0, hello);
  {
    std::vector<std::unique_ptr<Client>> silent;
    while (silent.size() < 32) silent.push_back(std::make_unique<Client>(server.port()));
    CHECK(Client(server.port()).hear().empty());
  }
  std::string answer;
  for (int turn = 0; turn < 200 && answer.empty(); ++turn) {
    answer = get(server.port(), "/b");
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  CHECK(contains(answer, "hello /b"));
}

TEST_CASE("a port in use and a host elsewhere are refused") {
  HttpServer server("127.0.0.1", 0, hello);
  const auto fault = [&](const char* host, int port) {
    return support::refusal([&] { HttpServer(host, port, hello); });
  };
  const std::string used = fault("127.0.0.1", server.port());
  CHECK(contains(used, "port " + std::to_string(server.port()) + " of 127.0.0.1 is in use"));
  CHECK(contains(used, "--serve " + std::to_string(server.port() + 1)));
  CHECK(contains(fault("203.0.113.1", 0), "cannot listen on 203.0.113.1"));
}

TEST_CASE("closing ends a visitor who sends nothing and one who takes nothing") {
  HttpServer server("127.0.0.1", 0, [](const std::string&, const Visitor& visitor) {
    const std::string much(1'000'000, 'x');
    while (visitor.send(much)) {
    }
  });
  Client silent(server.port()), greedy(server.port());
  greedy.say("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").hear("x");
  const double start = monotonic();
  server.close();
  CHECK(monotonic() - start < 0.5);
}

TEST_CASE("the stream gives the newest frames to whoever looks, and ends with the app") {
  const auto probe = std::make_unique<HttpServer>("127.0.0.1", 0, hello);
  const int port = probe->port();
  probe->close();
  const auto stream = open_stream("127.0.0.1", port);
  CHECK(contains(get(port, "/"), "<img src=\"/stream\""));
  CHECK(contains(get(port, "/?time=1"), "<img src=\"/stream\""));
  CHECK(contains(get(port, "/nothing"), "404 Not TrackedFrame"));
  std::string watched, picture;
  std::thread watcher([&] {
    Client client(port);
    client.say("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n").hear("--frame\r\n");
    watched = client.hear();
  });
  std::thread looker([&] { picture = get(port, "/snapshot.jpg"); });
  for (int number = 0; number < 40; ++number) {
    LabelledFrame labelled;
    labelled.frame = support::frame(number);
    CHECK(stream->write(labelled));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  looker.join();
  stream->close();
  watcher.join();
  CHECK(contains(picture, "Content-Type: image/jpeg"));
  CHECK(contains(picture, "\r\n\r\n\xFF\xD8"));
  std::size_t parts = 0;
  for (auto at = watched.find("--frame\r\n"); at != std::string::npos; at = watched.find("--frame\r\n", at + 1))
    ++parts;
  CHECK(parts >= 5);
  CHECK(contains(watched, "multipart/x-mixed-replace; boundary=frame"));
}
