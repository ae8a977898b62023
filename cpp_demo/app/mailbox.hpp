// A queue of one between two threads.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>

namespace edgefer::app {

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

}  // namespace edgefer::app
