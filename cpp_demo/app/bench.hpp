// Figures as JSON, with the keys of `edgefer bench --json` in Python but for its `schema` and `details`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "edgefer/classifier.hpp"
#include "summary.hpp"

namespace edgefer::app {

/// Call `classifier` on its golden faces, one by one, for so many seconds after a warm-up: milliseconds a call.
std::vector<double> time_engine(Classifier& classifier, double seconds);

/// What a run of the app is reported with.
struct Run {
  std::string source;
  Summary summary;
  const Meter& meter;
};

/// The JSON object: `calls_ms` of the engine with `threads`, and the app's run if there was one. What this program does
/// not measure (accuracy and a baseline) is null.
std::string bench_json(Classifier& classifier, std::uint64_t size_bytes, int threads,
                       const std::vector<double>& calls_ms, const std::optional<Run>& run);

}  // namespace edgefer::app
