#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <vector>

#include "edgefer/faces.hpp"

namespace edgefer {

struct Point {
  float x = 0.0F, y = 0.0F;
};

/// The eye on the left of the picture, that on the right, tip of the nose, left and right corner of the mouth.
using Landmarks = std::array<Point, 5>;

/// What a detector says of one face in one picture.
struct Detection {
  Box box;             ///< Parts may lie outside the picture.
  double score = 0.0;  ///< 0 to 1, the detector's own scale.
  Square crop;         ///< What to show the network.
  std::optional<Landmarks> landmarks;

  /// The same face with its box at the centre (x, y) with the size width×height; crop and landmarks move along.
  Detection moved(double x, double y, double width, double height) const;
};

/// Intersection over union.
double overlap(const Box& one, const Box& other) noexcept;

/// Indices that remain, best first, after boxes that overlap a better one by more than `limit` are left out.
std::vector<std::size_t> suppress(const std::vector<Box>& boxes, const std::vector<double>& scores, double limit);

/// A face with an identity.
struct TrackedFace {
  int number = 0;       ///< From 1; never given twice.
  Detection detection;  ///< Where it is now, seen or predicted.
  bool predicted = false;
};

/// Keeps identities of faces over a video, as edgefer/camera/track.py does: greedy matching, an α-β filter.
class Tracker {
 public:
  /// `confirmations`: searches that must find a face before it is shown.
  explicit Tracker(int confirmations = 1) noexcept : confirmations_(confirmations) {}

  /// Whether the next picture should be searched out of turn: a face is new, or was missed.
  bool wants_search() const noexcept;

  /// Take what the detector found at the time `at` (seconds); return the faces that are believed.
  std::vector<TrackedFace> update(const std::vector<Detection>& detections, double at);

  /// The faces at the time `at`, in a picture that was not searched.
  std::vector<TrackedFace> predict(double at) const;

  /// Forget all faces: the next picture has nothing to do with the last. Numbers go on.
  void reset() noexcept { tracks_.clear(); }

 private:
  struct Track {
    int number = 0;  // none yet: only a face that is believed gets one
    Detection detection;
    double x = 0.0, y = 0.0, width = 0.0, height = 0.0, speed_x = 0.0, speed_y = 0.0, at = 0.0;
    int hits = 1, misses = 0;

    Track(const Detection& found, double when);
    Box place(double when) const noexcept;
    void see(const Detection& found, double when) noexcept;
  };
  std::vector<TrackedFace> views(double at, bool predicted) const;

  int confirmations_;
  int count_ = 0;
  std::vector<Track> tracks_;
};

}  // namespace edgefer
