#include "notices.hpp"

#include <cstdio>

namespace edgefer::app {

void announce(const std::string& message) {
  const std::string line = message + "\n";  // one call, so that lines of two threads do not mix
  std::fputs(line.c_str(), stderr);
}

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string shortest(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

}  // namespace edgefer::app
