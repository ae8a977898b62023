// A line of JSON for each face of each frame.
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json_text.hpp"
#include "notices.hpp"
#include "sink.hpp"

namespace edgefer::app {
namespace {

/// Written a frame at a time with one call, so that whoever follows the file reads whole lines; what a full disk cut is
/// taken back.
class Events final : public Sink {
 public:
  Events(const std::string& path, const std::vector<std::string>& labels, bool film) : path_(path), film_(film) {
    for (const auto& label : labels) labels_.push_back(json_text(label));
    file_ = path == "-" ? STDOUT_FILENO : ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file_ < 0) throw fault(errno);
  }
  ~Events() override {
    if (file_ > STDOUT_FILENO) ::close(file_);
  }

  bool wants_picture() const override { return false; }

  bool write(const Seen& seen) override {
    lines_.clear();
    for (const auto& face : seen.faces) add(seen, face);
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

  void add(const Seen& seen, const Face& face) {
    const auto& box = face.tracked.detection.box;
    char text[512];
    std::snprintf(text, sizeof text,
                  R"({"time": %.3f, "frame": %lld, "film_s": %s, "track": %d, "box": [%.1f, %.1f, %.1f, %.1f], )"
                  R"("score": %.3f, "predicted": %s, "label": )",
                  seen.frame.clock, static_cast<long long>(seen.frame.number),
                  film_ ? fixed(seen.frame.time, 3).c_str() : "null", face.tracked.number, box.x, box.y, box.width,
                  box.height, face.tracked.detection.score, face.tracked.predicted ? "true" : "false");
    lines_ += text;
    lines_ += face.sure() ? labels_[face.label()] : "null";
    lines_ += R"(, "probabilities": {)";
    for (std::size_t i = 0; i < labels_.size(); ++i) {
      lines_ += (i ? ", " : "") + labels_[i] + ": " + fixed(static_cast<double>(face.calm.probabilities[i]), 4);
    }
    lines_ += "}, \"age_ms\": " + fixed(seen.age_ms(), 1) + "}\n";
  }

  const std::string path_;
  const bool film_;
  std::vector<std::string> labels_;  // quoted
  int file_ = -1;
  std::string lines_;
};

}  // namespace

std::unique_ptr<Sink> open_events(const std::string& path, std::vector<std::string> labels, bool film) {
  return std::make_unique<Events>(path, labels, film);
}

}  // namespace edgefer::app
