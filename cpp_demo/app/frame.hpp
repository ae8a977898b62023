// What travels through the app: a frame, the frame with its tracks, the frame with its labelled faces; and the two
// clocks that stamp them.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include <opencv2/core.hpp>

#include "edgefer/smoothing.hpp"
#include "edgefer/tracking.hpp"

namespace edgefer::app {

/// One picture.
struct Frame {
  std::int64_t number = 0;  ///< counts from 0, dropped ones included
  cv::Mat pixels;           ///< uint8 H×W×3 BGR, rotated and flipped as asked for
  double time = 0;          ///< seconds on the scale of motion: the video's own for a file, the clock's for a camera
  double captured = 0;      ///< monotonic() when it was read
  double clock = 0;         ///< wall() when it was read
  double read_ms = 0;       ///< what reading and decoding it took; of a camera, with the wait
  double turn_ms = 0;       ///< what rotating and mirroring took
};

/// A labelled face: where, and what the network makes of it.
struct LabelledFace {
  TrackedFace tracked;
  SmoothedLabel smoothed;

  bool sure() const { return smoothed.label >= 0; }
  /// Which class, if sure().
  std::size_t label() const { return static_cast<std::size_t>(smoothed.label); }
};

/// A frame with its tracks, and the milliseconds that finding them took.
struct TrackedFrame {
  Frame frame;
  std::vector<TrackedFace> tracks;
  bool searched = false;  ///< whether the detector ran on this frame
  double detect_ms = 0;   ///< the detector itself
  double track_ms = 0;    ///< identities and motion
};

/// A frame with its faces, and the milliseconds that each part of the work took.
struct LabelledFrame {
  Frame frame;
  std::vector<LabelledFace> faces;  ///< largest first
  std::size_t left_out = 0;         ///< number of faces beyond the maximum that is labelled
  bool searched = false;            ///< as of TrackedFrame, and the next two
  double detect_ms = 0;
  double track_ms = 0;
  double cut_ms = 0;       ///< faces cut out and brought to size
  double infer_ms = 0;     ///< the network itself
  double smooth_ms = 0;    ///< softmax and smoothing
  double labelled_at = 0;  ///< monotonic() when the labels were ready

  /// Between reading the frame and having its labels.
  double age_ms() const { return 1000.0 * (labelled_at - frame.captured); }
};

/// Of a clock that never jumps; its zero means nothing.
inline double monotonic() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Since 1970, as the machine's clock has it.
inline double wall() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace edgefer::app
