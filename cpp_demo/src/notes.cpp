#include "edgefer/notes.hpp"

#include <iostream>
#include <mutex>
#include <utility>

namespace edgefer {
namespace {

std::mutex& gate() {
  static std::mutex only;
  return only;
}

Announcer& current() {
  static Announcer announcer = [](const std::string& note) { std::cerr << "note: " << note << std::endl; };
  return announcer;
}

}  // namespace

void set_announcer(Announcer announcer) {
  const std::lock_guard<std::mutex> held(gate());
  current() = std::move(announcer);
}

void announce(const std::string& note) {
  const std::lock_guard<std::mutex> held(gate());
  if (current()) current()(note);
}

}  // namespace edgefer
