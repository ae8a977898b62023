// Ctrl-C and a service manager's SIGTERM.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <thread>

namespace edgefer::app {

/// From its construction on, both signals are taken by a thread of ours. The first one ends what `on_signal` was told
/// of, or the process (exit code 130) where nothing has to be finished yet; those that the impatient add are swallowed,
/// so that they cannot keep the app from finishing its files.
class Interrupts {
 public:
  /// Must come before any other thread is started: threads inherit which signals they do not take.
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  /// Call `end` at the signal, from another thread; nothing to leave the process at once.
  void on_signal(std::function<void()> end);

  bool came() const { return came_; }

 private:
  void watch();

  std::mutex mutex_;
  std::function<void()> end_;
  std::atomic<bool> came_{false};
  std::atomic<bool> over_{false};
  std::thread thread_;
};

}  // namespace edgefer::app
