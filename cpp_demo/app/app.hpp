// Camera → faces → engine → labels → sinks: four threads, with a newest-frame queue of one between each two.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "detector.hpp"
#include "edgefer/classifier.hpp"
#include "edgefer/smoothing.hpp"
#include "edgefer/tracking.hpp"
#include "measure.hpp"
#include "sink.hpp"
#include "source.hpp"

namespace edgefer::app {

/// How the app works.
struct Options {
  int every = 3;                  ///< frames from one search for faces to the next; between them, tracks move on
  bool level = true;              ///< turn tilted faces upright before they are labelled
  int max_faces = 32;             ///< largest faces that are labelled; the others are counted
  int rotate = 0;                 ///< clockwise, degrees: 0, 90, 180 or 270
  bool mirror = false;            ///< left and right swapped, after the rotation
  bool realtime = false;          ///< play a file at its own speed and drop frames as a camera would
  bool every_frame = false;       ///< lose no frame of a camera either: wait instead of dropping
  std::optional<double> seconds;  ///< stop after this time
  Smoothing smoothing;
};

/// `pixels` rotated and flipped as the options say.
cv::Mat turned(cv::Mat pixels, const Options& options);

/// Second stage: which faces are where.
class Finder {
 public:
  Finder(Detector& detector, const Options& options, bool stills);

  /// Search the frame if it is its turn, else move the tracks on.
  TrackedFrame operator()(Frame frame);

 private:
  Detector& detector_;
  const int every_;
  const bool stills_;
  Tracker tracker_;
  std::optional<std::int64_t> searched_at_;
  cv::Size size_;
};

/// Third stage: what the faces show.
class Labeller {
 public:
  Labeller(Classifier& classifier, const Options& options);

  /// Cut, label and smooth all faces of a frame.
  LabelledFrame operator()(TrackedFrame found);

  const std::vector<std::string>& labels() const { return classifier_.contract().labels; }
  /// E.g. "mini_xception INT8".
  const std::string& engine() const { return engine_; }

 private:
  Classifier& classifier_;
  const std::size_t max_faces_;
  const bool level_;
  const std::string engine_;
  Smoothers smoothers_;
  std::vector<std::uint8_t> crops_;
};

/// Holds at most one item. With `newest`, a new item replaces one that nobody took, which is counted; without, the
/// giver waits, so that nothing is lost and the slowest stage sets the pace.
template <typename T>
class Mailbox {
 public:
  explicit Mailbox(bool newest) : newest_(newest) {}

  /// Leave `item`; after close() it is thrown away.
  void put(T item) {
    std::unique_lock lock(mutex_);
    if (!newest_) changed_.wait(lock, [this] { return !item_ || closed_; });
    if (closed_) return;
    if (item_) ++dropped_;
    item_ = std::move(item);
    changed_.notify_all();
  }

  /// The item, as soon as there is one; nothing if the box is closed and empty.
  std::optional<T> get() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return item_ || closed_; });
    std::optional<T> item = std::move(item_);
    item_.reset();
    changed_.notify_all();
    return item;
  }

  /// No more items will come; what is inside can still be taken.
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

  /// Items that were replaced by a newer one.
  std::int64_t dropped() const {
    const std::lock_guard lock(mutex_);
    return dropped_;
  }

 private:
  const bool newest_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<T> item_;
  bool closed_ = false;
  std::int64_t dropped_ = 0;
};

/// A live source (and a file with `realtime`) drops frames that a slow stage cannot take, and counts them; a file, and
/// whatever runs with `every_frame`, waits, and no frame is lost.
class App {
 public:
  /// Owns nothing: everything outlives it. At the end, stages have `join_seconds` to come back from a driver.
  App(Source& source, Finder& find, Labeller& label, std::vector<Sink*> sinks, const Options& options,
      double join_seconds = 0.2);
  ~App();

  /// Work until the source ends, a window is closed, the time is up or stop() is called; then close the sinks. Throws
  /// the first fault of any stage, after that.
  Summary run();

  /// End soon; any thread may call it.
  void stop();

  /// Whether a stage hangs in a driver and did not come back: then neither this nor what it was given may be destroyed,
  /// and the process is to be left with std::_Exit.
  bool left_a_thread_behind() const { return left_behind_; }

  const Meter& meter() const { return meter_; }

 private:
  /// A thread of a stage, and whether it has ended.
  struct Stage {
    std::thread thread;
    std::shared_ptr<std::atomic<bool>> ended;
  };

  void capture();
  void detect();
  void infer();
  void show();
  bool put_out(LabelledFrame& labelled);
  void begin(void (App::*work)(), std::function<void()> close_next);
  void fail(std::exception_ptr fault);
  void finish();
  Summary summary() const;
  bool pause_until(double moment);

  Source& source_;
  Finder& find_;
  Labeller& label_;
  const std::vector<Sink*> sinks_;
  const Options& options_;
  const double join_seconds_;
  const bool newest_;
  const bool wants_picture_;
  Mailbox<Frame> frames_;
  Mailbox<TrackedFrame> found_;
  Mailbox<LabelledFrame> labelled_;
  std::vector<Stage> stages_;
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stop_ = false;
  std::exception_ptr fault_;
  std::atomic<std::int64_t> read_{0};
  Meter meter_;
  bool told_ = false;
  bool left_behind_ = false;
};

}  // namespace edgefer::app
