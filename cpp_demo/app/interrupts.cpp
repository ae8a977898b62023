#include "interrupts.hpp"

#include <csignal>
#include <cstdlib>
#include <ctime>
#include <utility>

#include "notices.hpp"

namespace edgefer::app {
namespace {

constexpr int kInterrupted = 130;  // 128 + SIGINT, as shells report it
constexpr long kLookNanoseconds = 100'000'000;

sigset_t both() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

Interrupts::Interrupts() {
  const sigset_t set = both();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this] { watch(); });
}

Interrupts::~Interrupts() {
  over_ = true;
  thread_.join();
}

void Interrupts::on_signal(std::function<void()> end) {
  const std::lock_guard lock(mutex_);
  end_ = std::move(end);
}

void Interrupts::watch() {
  const sigset_t set = both();
  while (!over_) {
    const timespec look{0, kLookNanoseconds};
    if (sigtimedwait(&set, nullptr, &look) < 0 || came_) continue;
    const std::lock_guard lock(mutex_);
    if (!end_) {
      announce("interrupted");
      std::_Exit(kInterrupted);
    }
    came_ = true;
    announce("stopping");
    end_();
  }
}

}  // namespace edgefer::app
