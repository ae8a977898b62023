// The video as MJPEG over HTTP: a browser, VLC or another program looks at it while it runs.
#include <condition_variable>
#include <mutex>

#include <nlohmann/json.hpp>
#include <opencv2/imgcodecs.hpp>

#include "http_server.hpp"
#include "notices.hpp"
#include "sink.hpp"

namespace edgefer::app {
namespace {

constexpr auto kPage =
    "<!doctype html><meta charset=\"utf-8\"><meta name=\"viewport\" "
    "content=\"width=device-width\"><title>edgefer</title>"
    "<style>body{margin:0;background:#111}img{display:block;width:100%;height:100vh;object-fit:contain}</style>"
    "<img src=\"/stream\" alt=\"the camera with its labels\">";

using Jpeg = std::shared_ptr<const std::vector<unsigned char>>;

class Stream final : public Sink {
 public:
  Stream(const std::string& host, int port)
      : server_(host, port, [this](const std::string& path, const Visitor& visitor) { serve(path, visitor); }) {
    announce("streaming on " + server_.address());
  }
  ~Stream() override { close(); }

  bool wants_picture() const override { return true; }

  /// Encode the frame if anybody is waiting for one.
  bool write(const LabelledFrame& labelled) override {
    {
      const std::lock_guard lock(mutex_);
      if (waiting_ == 0) return true;
    }
    std::vector<unsigned char> content;
    cv::imencode(".jpg", labelled.frame.pixels, content, {cv::IMWRITE_JPEG_QUALITY, 85});
    {
      const std::lock_guard lock(mutex_);
      newest_ = std::make_shared<const std::vector<unsigned char>>(std::move(content));
      ++number_;
    }
    changed_.notify_all();
    return true;
  }

  void close() override {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    changed_.notify_all();
    server_.close();
  }

 private:
  void serve(const std::string& target, const Visitor& visitor) {
    const std::string path = target.substr(0, target.find('?'));  // some add ?time=… against caches
    if (path == "/") {
      visitor.answer("200 OK", "text/html; charset=utf-8", kPage);
    } else if (path == "/snapshot.jpg") {
      const Jpeg jpeg = next();
      if (jpeg) visitor.answer("200 OK", "image/jpeg", std::string(jpeg->begin(), jpeg->end()));
    } else if (path == "/stream") {
      bool there = visitor.send(
          "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\nCache-Control: no-store\r\n"
          "Connection: close\r\n\r\n");
      while (there) {
        const Jpeg jpeg = next();
        there = jpeg &&
                visitor.send("--frame\r\nContent-Type: image/jpeg\r\nContent-Length: " + std::to_string(jpeg->size()) +
                             "\r\n\r\n") &&
                visitor.send(jpeg->data(), jpeg->size()) && visitor.send("\r\n");
      }
    } else {
      visitor.answer("404 Not TrackedFrame", "application/json",
                     nlohmann::json{{"error", "there are /, /stream and /snapshot.jpg"}}.dump());
    }
  }

  /// Wait for the next frame; nothing at the end.
  Jpeg next() {
    std::unique_lock lock(mutex_);
    const auto after = number_;
    ++waiting_;
    changed_.wait(lock, [&] { return number_ > after || closed_; });
    --waiting_;
    return closed_ ? nullptr : newest_;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  Jpeg newest_;
  long number_ = 0;
  int waiting_ = 0;
  bool closed_ = false;
  HttpServer server_;  // last: its threads use what stands above
};

}  // namespace

std::unique_ptr<Sink> open_stream(const std::string& host, int port) { return std::make_unique<Stream>(host, port); }

}  // namespace edgefer::app
