// A film with the overlay in it.
#include <algorithm>
#include <cctype>
#include <cmath>

#include <unistd.h>
#include <opencv2/imgproc.hpp>
#include <opencv2/videoio.hpp>

#include "clock.hpp"
#include "notices.hpp"
#include "sink.hpp"

namespace edgefer::app {
namespace fs = std::filesystem;

namespace {

constexpr double kLongestGap = 2.0;  // seconds of a frozen picture, e.g. while a source was away
// OpenCV's writer does not say when a disk is full, and a film without its index at the end does not play. So the film
// ends while there is room for what is still in the encoder and for the index: four tables of some bytes a frame.
constexpr std::uintmax_t kReserveBytes = 4u << 20u;
constexpr std::uintmax_t kIndexBytes = 32;

class Film final : public Sink {
 public:
  Film(const fs::path& path, double fps, bool live) : final_(path), fps_(fps), live_(live) {
    std::string suffix = path.extension().string();
    std::transform(suffix.begin(), suffix.end(), suffix.begin(), [](unsigned char c) { return std::tolower(c); });
    if (suffix != ".mp4") {
      throw Error("a film is written as .mp4, not as " + path.string(),
                  "--video " + fs::path(path).replace_extension(".mp4").string());
    }
    const auto folder = fs::absolute(path).parent_path();
    if (!fs::is_directory(folder))
      throw Error("there is no folder " + folder.string(), "make it, or give another --video");
    if (access(folder.c_str(), W_OK) != 0) throw Error("cannot write into " + folder.string(), "give another --video");
    temporary_ = folder / ("." + path.stem().string() + "-" + std::to_string(getpid()) + ".mp4");
  }
  ~Film() override {
    std::error_code ignored;
    writer_.release();
    if (!closed_) fs::remove(temporary_, ignored);
  }

  bool wants_picture() const override { return true; }

  bool write(const Seen& seen) override {
    cv::Mat pixels = seen.frame.pixels;
    if (!writer_.isOpened()) open(pixels.size());
    if (pixels.size() != size_) pixels = fitted(pixels);
    for (int left = due(seen.frame.captured); left > 0; --left) writer_.write(pixels);
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
      throw Error("the film " + final_.string() + " could not be finished", "is the disk full?");
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

  /// At the film's size, in its own proportions before black.
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

  /// How often the frame stands in the film.
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

  /// Throws Error when the disk is nearly full; looked at on every eighth frame, and a few times a second.
  void check_room() {
    ++frames_;
    const double now = monotonic();
    if (now - looked_ < 0.2 && frames_ % 8 != 0) return;
    looked_ = now;
    std::error_code fault;
    const auto room = fs::space(temporary_.parent_path(), fault).available;
    if (!fault && room < kReserveBytes + kIndexBytes * frames_) {
      throw Error("the disk of " + final_.string() + " is full: " + fixed(static_cast<double>(room) / 1e6, 1) +
                      " MB are left, and a film needs room for its index",
                  "the film until here plays; free some space, or give another --video");
    }
  }

  bool plays() const {
    cv::VideoCapture film(temporary_.string());
    cv::Mat first;
    return film.isOpened() && film.read(first) && !first.empty();
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
  double looked_ = 0.0;
};

}  // namespace

std::unique_ptr<Sink> open_film(const fs::path& path, double fps, bool live) {
  return std::make_unique<Film>(path, fps, live);
}

}  // namespace edgefer::app
