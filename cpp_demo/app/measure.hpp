// Frames per second, ages, drops and duration of each part of the work, in memory that does not grow; and these values
// as JSON.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "edgefer/classifier.hpp"
#include "frame.hpp"

namespace edgefer::app {

/// What a run of the app did.
struct Summary {
  std::int64_t read = 0;                                                 ///< frames that the source gave
  std::int64_t shown = 0;                                                ///< frames that reached the sinks
  std::int64_t dropped_detect = 0, dropped_infer = 0, dropped_draw = 0;  ///< frames replaced by a newer one before it
  double seconds = 0;                                                    ///< from the first to the last frame shown
  std::optional<double> fps;                                             ///< frames shown per second
  std::optional<double> age_p50_ms, age_p95_ms;  ///< from reading a frame to having its labels, if live
  int tracks = 0;                                ///< different faces
  int reconnects = 0;                            ///< times that the source came back

  /// One line for a person.
  std::string text() const;
};

/// Milliseconds per frame that a part of the work took, of the last 4,096 frames.
class Durations {
 public:
  void add(double ms);
  /// Linearly interpolated, as numpy does it; nothing without values.
  std::optional<double> percentile(double percent) const;
  std::optional<double> mean() const;

 private:
  std::deque<double> values_;
};

/// The parts of a frame's work, in the order in which they happen, and its waits between threads.
enum class Part { read, turn, detect, track, cut, infer, smooth, draw, write, wait, count };

/// Counts what reaches the sinks.
class Meter {
 public:
  void count(const LabelledFrame& labelled);
  /// What drawing and writing that frame took, now that it is done.
  void count_output(const LabelledFrame& labelled, double draw_ms, double write_ms);

  /// Of the last sixty frames.
  std::optional<double> fps() const;
  const Durations& of(Part part) const { return parts_[static_cast<std::size_t>(part)]; }
  const Durations& ages() const { return ages_; }
  /// Milliseconds per frame outside reading, detection, inference and waits: mean and percentiles are of sums, frame by
  /// frame.
  const Durations& overhead() const { return overhead_; }
  /// What is known here: shown, seconds, fps, tracks, and ages if `live`.
  Summary summary(bool live) const;

 private:
  Durations& part(Part which) { return parts_[static_cast<std::size_t>(which)]; }

  std::deque<double> moments_;
  std::array<Durations, static_cast<std::size_t>(Part::count)> parts_;
  Durations ages_, overhead_;
  double first_ = 0, last_ = 0;
  std::int64_t shown_ = 0;
  int tracks_ = 0;
};

/// Call `classifier` on its golden faces, one by one, for `seconds` after a warm-up; returns the milliseconds of
/// each call.
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
