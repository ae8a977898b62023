// Camera → faces → engine → labels → sinks: four threads, with a newest-frame queue of one between each two.
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "mailbox.hpp"
#include "overlay.hpp"
#include "sink.hpp"
#include "source.hpp"
#include "stages.hpp"
#include "summary.hpp"

namespace edgefer::app {

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
  bool put_out(Seen& seen);
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
  Mailbox<Found> found_;
  Mailbox<Seen> seen_;
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
