// What a user asked for on the command line.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "detector.hpp"
#include "source.hpp"
#include "stages.hpp"

namespace edgefer::app {

/// All options; names, meanings and defaults are those of `edgefer camera` in Python.
struct Arguments {
  std::string engine;
  std::optional<std::string> source;  ///< camera 0 if absent; with `bench`, none
  SourceWishes source_wishes;
  Options options;
  std::string detector = "haar";
  DetectorWishes detector_wishes;
  std::optional<std::string> boxes, video, events;
  std::optional<bool> window;  ///< if absent: where there is a display
  std::optional<int> serve;
  std::string host = "127.0.0.1";
  int threads = 1;
  bool bench = false;
  bool help = false, version = false;
};

/// Throws Error: an unknown option, or a value that makes no sense.
Arguments parse_arguments(const std::vector<std::string>& arguments);

/// What --help prints.
std::string help_page();

}  // namespace edgefer::app
