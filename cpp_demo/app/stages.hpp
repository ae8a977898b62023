// The stages between reading and drawing, each a function from what comes in to what goes out; threads are the app's.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "detector.hpp"
#include "edgefer/classifier.hpp"
#include "edgefer/smoothing.hpp"
#include "edgefer/tracking.hpp"
#include "seen.hpp"

namespace edgefer::app {

/// How the app works.
struct Options {
  int every = 3;                  ///< search every so many frames for faces; between, tracks move on
  bool level = true;              ///< turn tilted faces upright before they are labelled
  int most_faces = 32;            ///< label the largest so many; the others are counted
  int rotate = 0;                 ///< clockwise, degrees: 0, 90, 180 or 270
  bool mirror = false;            ///< left and right swapped, after the rotation
  bool realtime = false;          ///< play a file at its own speed and drop frames as a camera would
  bool every_frame = false;       ///< lose no frame of a camera either: wait instead of dropping
  std::optional<double> seconds;  ///< stop after so many
  Smoothing smoothing;
};

/// `pixels` rotated and mirrored as the options say.
cv::Mat turned(cv::Mat pixels, const Options& options);

/// Second stage: which faces are where.
class Finder {
 public:
  Finder(Detector& detector, const Options& options, bool stills);

  /// Search the frame if it is its turn, else move the tracks on.
  Found operator()(Frame frame);

 private:
  Detector& detector_;
  const int every_;
  const bool stills_;
  Tracker tracker_;
  std::optional<std::int64_t> looked_;
  cv::Size size_;
};

/// Third stage: what the faces show.
class Labeller {
 public:
  Labeller(Classifier& classifier, const Options& options);

  /// Cut, label and smooth all faces of a frame.
  Seen operator()(Found found);

  const std::vector<std::string>& labels() const { return classifier_.contract().labels; }
  /// E.g. "mini_xception INT8".
  const std::string& engine() const { return engine_; }

 private:
  Classifier& classifier_;
  const std::size_t most_faces_;
  const bool level_;
  const std::string engine_;
  Smoothers smoothers_;
  std::vector<std::uint8_t> crops_;
};

}  // namespace edgefer::app
