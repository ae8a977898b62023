#include "capture.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "clock.hpp"
#include "pictures.hpp"

namespace edgefer::app {
namespace {

constexpr auto kCloseTime = std::chrono::milliseconds(200);
constexpr int kEmptyInARow = 30;
constexpr double kFirstPause = 0.25;
constexpr double kLongestPause = 4.0;

}  // namespace

CaptureSource::CaptureSource(const Open& open, const std::string& name, std::optional<bool> live,
                             const Refusal& refusal, double patience)
    : CaptureSource(open, name, live, refusal, patience, open()) {}

CaptureSource::CaptureSource(const Open& open, const std::string& name, std::optional<bool> is_live,
                             const Refusal& refusal, double patience, cv::VideoCapture capture)
    : Source(name, is_live.value_or(capture.get(cv::CAP_PROP_FRAME_COUNT) < 1), false),
      open_(open),
      refusal_(refusal),
      patience_(patience),
      capture_(std::move(capture)) {
  if (!capture_.isOpened()) throw refusal_();
  const double stated = capture_.get(cv::CAP_PROP_FPS);
  if (stated >= 1.0 && stated <= 240.0) fps = stated;
  if (!live) expected_ = static_cast<long>(capture_.get(cv::CAP_PROP_FRAME_COUNT));
}

std::optional<cv::Mat> CaptureSource::read() {
  // Frames without pixels are skipped; many in a row count as a source that stopped.
  for (int turn = 0; turn < kEmptyInARow; ++turn) {
    if (closed_within(0.0)) return std::nullopt;
    const auto pixels = grab();
    if (!pixels) break;
    if (!pixels->empty()) {
      ++frames_;
      return to_bgr(*pixels, name);
    }
  }
  if (closed_within(0.0)) return std::nullopt;
  if (live) return reconnected();
  check_end();
  return std::nullopt;
}

void CaptureSource::close() {
  {
    const std::lock_guard lock(waiting_);
    closed_ = true;
  }
  woken_.notify_all();
  if (busy_.try_lock_for(kCloseTime)) {
    capture_.release();
    busy_.unlock();
  }
}

std::optional<cv::Mat> CaptureSource::grab() {
  cv::Mat pixels;  // a new one a frame: the last is still on its way through the app
  try {
    const std::lock_guard lock(busy_);
    if (!capture_.read(pixels)) return std::nullopt;
  } catch (const cv::Exception&) {  // some drivers raise when a device is unplugged
    return std::nullopt;
  }
  return pixels;
}

void CaptureSource::check_end() const {
  if (frames_ == 0) throw refusal_();
  if (expected_ > 0 && static_cast<double>(frames_) < 0.9 * static_cast<double>(expected_)) {
    announce("note: " + name + " ended after " + std::to_string(frames_) + " of " + std::to_string(expected_) +
             " frames: it may be cut short");
  }
}

std::optional<cv::Mat> CaptureSource::reconnected() {
  announce(name + " gives no more frames: trying again for " + shortest(patience_) + " s");
  const double until = monotonic() + patience_;
  for (double pause = kFirstPause; monotonic() < until; pause = std::min(2 * pause, kLongestPause)) {
    if (closed_within(std::min(pause, std::max(0.0, until - monotonic())))) return std::nullopt;
    {
      const std::lock_guard lock(busy_);
      capture_.release();
      capture_ = open_();
    }
    const auto pixels = capture_.isOpened() ? grab() : std::nullopt;
    if (pixels && !pixels->empty()) {
      ++reconnects;
      ++frames_;
      announce(name + " is back");
      return to_bgr(*pixels, name);
    }
  }
  if (closed_within(0.0)) return std::nullopt;
  throw Error(name + " stopped after " + std::to_string(frames_) + " frames and did not come back within " +
                  shortest(patience_) + " s",
              "check its cable, power and network; --patience SECONDS waits longer");
}

bool CaptureSource::closed_within(double seconds) {
  std::unique_lock lock(waiting_);
  return woken_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return closed_; });
}

}  // namespace edgefer::app
