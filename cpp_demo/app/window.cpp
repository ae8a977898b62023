// A window on the display.
#include <cerrno>
#include <cstdlib>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <opencv2/highgui.hpp>

#include "notices.hpp"
#include "sink.hpp"

namespace edgefer::app {
namespace {

bool set(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

constexpr auto kWithout = "--no-window with --video out.mp4, --events out.jsonl or --serve 8080";

/// A display that is named may be gone, or of another user: OpenCV's Qt would end the process, which nothing can catch.
/// So this program, started anew with `--try-window`, tries it first.
void check_display() {
  if (!has_display()) throw Error("a window needs a display, and neither DISPLAY nor WAYLAND_DISPLAY is set", kWithout);
  char self[] = "/proc/self/exe", option[] = "--try-window";
  char* const arguments[] = {self, option, nullptr};
  posix_spawn_file_actions_t quiet;
  posix_spawn_file_actions_init(&quiet);
  for (const int stream : {STDOUT_FILENO, STDERR_FILENO}) {
    posix_spawn_file_actions_addopen(&quiet, stream, "/dev/null", O_WRONLY, 0);
  }
  pid_t child = 0;
  int status = posix_spawn(&child, self, &quiet, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&quiet);
  while (status == 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0) throw Error("OpenCV cannot open a window on this display", kWithout);
}

class Window final : public Sink {
 public:
  Window(std::string title, bool stays, std::function<bool()> is_over)
      : title_(std::move(title)), stays_(stays), is_over_(std::move(is_over)) {
    check_display();
    cv::namedWindow(title_, cv::WINDOW_NORMAL | cv::WINDOW_KEEPRATIO);
  }
  ~Window() override { close(); }

  bool wants_picture() const override { return true; }

  bool write(const Seen& seen) override {
    cv::imshow(title_, seen.frame.pixels);
    while (true) {
      const int key = cv::waitKey(stays_ ? 100 : 1);
      if (key == 'q' || key == 27 || !is_visible() || is_over_()) return false;
      if (key != -1 || !stays_) return true;
    }
  }

  void close() override {
    if (!std::exchange(closed_, true)) cv::destroyAllWindows();
  }

 private:
  bool is_visible() const { return cv::getWindowProperty(title_, cv::WND_PROP_VISIBLE) >= 1; }

  const std::string title_;
  const bool stays_;
  const std::function<bool()> is_over_;
  bool closed_ = false;
};

}  // namespace

int try_window() {
  try {
    cv::namedWindow("edgefer");
    return 0;
  } catch (const cv::Exception&) {
    return 1;
  }
}

bool has_display() { return set("DISPLAY") || set("WAYLAND_DISPLAY"); }

std::unique_ptr<Sink> open_window(const std::string& title, bool stays, std::function<bool()> is_over) {
  return std::make_unique<Window>(title, stays, std::move(is_over));
}

}  // namespace edgefer::app
