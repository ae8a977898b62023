// What a user asked for on the command line.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "app.hpp"
#include "detector.hpp"
#include "source.hpp"

namespace edgefer::app {

/// All options; names, meanings and defaults are those of `edgefer camera` in Python.
struct Arguments {
  std::string engine;
  std::optional<std::string> source;  ///< camera 0 if absent; with `bench`, none
  SourceOptions source_options;
  Options options;
  std::string detector = "haar";
  DetectorOptions detector_options;
  std::optional<std::string> boxes, video, events;
  std::optional<bool> window;  ///< if absent: where there is a display
  std::optional<int> serve;
  std::string host = "127.0.0.1";
  int threads = 1;
  bool bench = false, version = false;
  std::optional<std::string> help;  ///< the page, if it was asked for; the rest is not checked then
};

/// Throws Error: an unknown option, or a value that makes no sense.
Arguments parse_arguments(const std::vector<std::string>& arguments);

}  // namespace edgefer::app
