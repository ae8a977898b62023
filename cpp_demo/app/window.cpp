// A window on the display.
#include <cstdlib>

#include <opencv2/highgui.hpp>

#include "notices.hpp"
#include "sink.hpp"

namespace edgefer::app {
namespace {

bool set(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

class Window final : public Sink {
 public:
  Window(std::string title, bool stays) : title_(std::move(title)), stays_(stays) {
    if (!has_display()) {  // OpenCV would abort the process, which nothing can catch
      throw Error("a window needs a display, and neither DISPLAY nor WAYLAND_DISPLAY is set",
                  "--no-window with --video out.mp4, --events out.jsonl or --serve 8080");
    }
    try {
      cv::namedWindow(title_, cv::WINDOW_NORMAL | cv::WINDOW_KEEPRATIO);
    } catch (const cv::Exception& cause) {
      throw Error("no window opens: " + cause.err, "--no-window with --video, --events or --serve");
    }
  }
  ~Window() override { close(); }

  bool wants_picture() const override { return true; }

  bool write(const Seen& seen) override {
    cv::imshow(title_, seen.frame.pixels);
    const int key = cv::waitKey(1);
    open_ = key != 'q' && key != 27 && is_visible();
    return open_;
  }

  void linger() override {
    while (stays_ && open_ && cv::waitKey(100) == -1 && is_visible()) {
    }
  }

  void close() override {
    if (!std::exchange(closed_, true)) cv::destroyAllWindows();
  }

 private:
  bool is_visible() const { return cv::getWindowProperty(title_, cv::WND_PROP_VISIBLE) >= 1; }

  const std::string title_;
  const bool stays_;
  bool open_ = true;
  bool closed_ = false;
};

}  // namespace

bool has_display() { return set("DISPLAY") || set("WAYLAND_DISPLAY"); }

std::unique_ptr<Sink> open_window(const std::string& title, bool stays) {
  return std::make_unique<Window>(title, stays);
}

}  // namespace edgefer::app
