// What the app tells a person: notices on stderr, and the error that ends it. stdout is for results.
#pragma once

#include <cstdio>
#include <string>

#include "edgefer/error.hpp"

namespace edgefer::app {

using edgefer::Error;

/// Print one line on stderr.
inline void announce(const std::string& message) {
  const std::string line = message + "\n";  // one call, so that lines of two threads do not mix
  std::fputs(line.c_str(), stderr);
}

/// `value` with `digits` digits after the point.
inline std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

/// `value` as short as it can be written.
inline std::string shortest(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

}  // namespace edgefer::app
