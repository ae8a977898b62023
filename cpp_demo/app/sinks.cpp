// Events, videos and windows; mjpeg.cpp has the stream.
#include "sink.hpp"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <nlohmann/json.hpp>
#include <opencv2/highgui.hpp>
#include <opencv2/imgproc.hpp>
#include <opencv2/videoio.hpp>

#include "notices.hpp"

namespace edgefer::app {
namespace fs = std::filesystem;

namespace {

#if NLOHMANN_JSON_VERSION_MAJOR > 3 || NLOHMANN_JSON_VERSION_MINOR > 8
using Json = nlohmann::ordered_json;  // keys as Python writes them
#else
using Json = nlohmann::json;  // Ubuntu 20.04's 3.7 sorts them
#endif

/// To a multiple of 1/`parts`, as Python's events are rounded.
double rounded(double value, double parts) { return std::round(value * parts) / parts; }

/// Written a frame at a time with one call, so that whoever follows the file reads whole lines; what a full disk cut is
/// taken back.
class Events final : public Sink {
 public:
  Events(const std::string& path, const std::vector<std::string>& labels, bool video)
      : path_(path), video_(video), labels_(labels) {
    file_ = path == "-" ? STDOUT_FILENO : ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file_ < 0) throw fault(errno);
  }
  ~Events() override {
    if (file_ > STDOUT_FILENO) ::close(file_);
  }

  bool wants_picture() const override { return false; }

  bool write(const LabelledFrame& labelled) override {
    lines_.clear();
    for (const auto& face : labelled.faces) add(labelled, face);
    const char* from = lines_.data();
    for (std::size_t left = lines_.size(); left > 0;) {
      const auto written = ::write(file_, from, left);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0 && errno == EPIPE) return false;  // who read the events has had enough
      if (written < 0) {
        const int cause = errno;
        take_back(static_cast<off_t>(lines_.size() - left));
        throw fault(cause);
      }
      from += written;
      left -= static_cast<std::size_t>(written);
    }
    return true;
  }

  void close() override {
    if (file_ <= STDOUT_FILENO) return;
    if (::close(std::exchange(file_, -1)) != 0) throw fault(errno);
  }

 private:
  Error fault(int cause) const {
    const auto hint = cause == ENOSPC || cause == EDQUOT ? "free some space; the events until here are whole lines"
                                                         : "--events FILE.jsonl, or - for stdout";
    return Error("cannot write " + path_ + ": " + std::strerror(cause), hint);
  }

  void take_back(off_t bytes) const {
    const auto end = lseek(file_, 0, SEEK_CUR);
    if (file_ > STDOUT_FILENO && end >= bytes && ftruncate(file_, end - bytes) != 0) {
      announce("note: the last line of " + path_ + " is cut short");
    }
  }

  void add(const LabelledFrame& labelled, const LabelledFace& face) {
    const auto& box = face.tracked.detection.box;
    Json probabilities;
    for (std::size_t i = 0; i < labels_.size(); ++i) {
      probabilities[labels_[i]] = rounded(static_cast<double>(face.smoothed.probabilities[i]), 1e4);
    }
    Json event;  // one key after the other: so they keep their order
    event["time"] = rounded(labelled.frame.clock, 1e3);
    event["frame"] = labelled.frame.number;
    event["video_s"] = video_ ? Json(rounded(labelled.frame.time, 1e3)) : Json();
    event["track"] = face.tracked.number;
    event["box"] = {rounded(box.x, 10), rounded(box.y, 10), rounded(box.width, 10), rounded(box.height, 10)};
    event["score"] = rounded(face.tracked.detection.score, 1e3);
    event["predicted"] = face.tracked.predicted;
    event["label"] = face.sure() ? Json(labels_[face.label()]) : Json();
    event["probabilities"] = std::move(probabilities);
    event["age_ms"] = rounded(labelled.age_ms(), 10);
    lines_ += event.dump() + "\n";
  }

  const std::string path_;
  const bool video_;
  const std::vector<std::string> labels_;
  int file_ = -1;
  std::string lines_;
};

constexpr double kLongestGap = 2.0;  // seconds of a frozen picture, e.g. while a source was away
// OpenCV's writer does not say when a disk is full, and a video without its index at the end does not play. So the
// video ends while there is room for what is still in the encoder and for the index: four tables of some bytes per
// frame.
constexpr std::uintmax_t kReserveBytes = 4u << 20u;
constexpr std::uintmax_t kIndexBytes = 32;

class Video final : public Sink {
 public:
  Video(const fs::path& path, double fps, bool live) : final_(path), fps_(fps), live_(live) {
    std::string suffix = path.extension().string();
    std::transform(suffix.begin(), suffix.end(), suffix.begin(), [](unsigned char c) { return std::tolower(c); });
    if (suffix != ".mp4") {
      throw Error("a video is written as .mp4, not as " + path.string(),
                  "--video " + fs::path(path).replace_extension(".mp4").string());
    }
    const auto folder = fs::absolute(path).parent_path();
    if (!fs::is_directory(folder))
      throw Error("there is no folder " + folder.string(), "make it, or give another --video");
    if (access(folder.c_str(), W_OK) != 0) throw Error("cannot write into " + folder.string(), "give another --video");
    temporary_ = folder / ("." + path.stem().string() + "-" + std::to_string(getpid()) + ".mp4");
  }
  ~Video() override {
    std::error_code ignored;
    writer_.release();
    if (!closed_) fs::remove(temporary_, ignored);
  }

  bool wants_picture() const override { return true; }

  bool write(const LabelledFrame& labelled) override {
    cv::Mat pixels = labelled.frame.pixels;
    if (!writer_.isOpened()) open(pixels.size());
    if (pixels.size() != size_) pixels = fitted(pixels);
    for (int left = due(labelled.frame.captured); left > 0; --left) writer_.write(pixels);
    check_room();
    return true;
  }

  /// Finish the file and give it its name.
  void close() override {
    if (closed_) return;
    closed_ = true;
    if (!writer_.isOpened()) {
      announce("note: no frame came, so " + final_.string() + " was not written");
      return;
    }
    writer_.release();
    std::error_code fault;
    if (!plays()) {
      fs::remove(temporary_, fault);
      throw Error("the video " + final_.string() + " could not be finished", "is the disk full?");
    }
    fs::rename(temporary_, final_, fault);
    if (fault) throw Error("cannot write " + final_.string() + ": " + fault.message(), "give another --video");
  }

 private:
  void open(cv::Size size) {
    size_ = size;
    writer_.open(temporary_.string(), cv::VideoWriter::fourcc('m', 'p', '4', 'v'), fps_, size);
    if (!writer_.isOpened()) {
      throw Error("cannot write " + final_.string() + ": the disk is full, or this OpenCV has no MPEG-4 encoder",
                  "OpenCV with FFmpeg or GStreamer has one");
    }
  }

  /// At the video's size, in its own proportions before black.
  cv::Mat fitted(const cv::Mat& pixels) const {
    const double scale = std::min(static_cast<double>(size_.width) / pixels.cols,  //
                                  static_cast<double>(size_.height) / pixels.rows);
    const auto length = [scale](int of) { return std::max(1, static_cast<int>(std::lrint(of * scale))); };
    const cv::Size inner(length(pixels.cols), length(pixels.rows));
    const cv::Point corner((size_.width - inner.width) / 2, (size_.height - inner.height) / 2);
    cv::Mat whole(size_, CV_8UC3, cv::Scalar::all(0));
    cv::resize(pixels, whole(cv::Rect(corner, inner)), inner);
    return whole;
  }

  /// How often the frame stands in the video.
  int due(double captured) {
    if (!live_) return 1;
    if (written_ == 0) {
      last_ = captured;
      written_ = 1;
      return 1;
    }
    const double elapsed = std::min(captured - last_, kLongestGap);
    const int count = static_cast<int>(elapsed * fps_ + 0.5);
    if (count > 0) {
      // Time that was rounded away counts for the next frame.
      last_ = std::max(last_ + count / fps_, captured - 0.5);
      written_ += count;
    }
    return count;
  }

  /// Throws Error when the disk is nearly full; checked on every eighth frame, and a few times per second.
  void check_room() {
    ++frames_;
    const double now = monotonic();
    if (now - checked_at_ < 0.2 && frames_ % 8 != 0) return;
    checked_at_ = now;
    std::error_code fault;
    const auto room = fs::space(temporary_.parent_path(), fault).available;
    if (!fault && room < kReserveBytes + kIndexBytes * frames_) {
      throw Error("the disk of " + final_.string() + " is full: " + fixed(static_cast<double>(room) / 1e6, 1) +
                      " MB are left, and a video needs room for its index",
                  "the video until here plays; free some space, or give another --video");
    }
  }

  bool plays() const {
    cv::VideoCapture video(temporary_.string());
    cv::Mat first;
    return video.isOpened() && video.read(first) && !first.empty();
  }

  const fs::path final_;
  const double fps_;
  const bool live_;
  fs::path temporary_;
  cv::VideoWriter writer_;
  cv::Size size_;
  bool closed_ = false;
  long written_ = 0;
  std::uintmax_t frames_ = 0;
  double last_ = 0.0;
  double checked_at_ = 0.0;
};

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

  bool write(const LabelledFrame& labelled) override {
    cv::imshow(title_, labelled.frame.pixels);
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

std::unique_ptr<Sink> open_events(const std::string& path, std::vector<std::string> labels, bool video) {
  return std::make_unique<Events>(path, labels, video);
}

std::unique_ptr<Sink> open_video(const fs::path& path, double fps, bool live) {
  return std::make_unique<Video>(path, fps, live);
}

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
