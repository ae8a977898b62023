// Seconds, on the two clocks that the app needs.
#pragma once

#include <chrono>

namespace edgefer::app {

/// Of a clock that never jumps; its zero means nothing.
inline double monotonic() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Since 1970, as the machine's clock has it.
inline double wall() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace edgefer::app
