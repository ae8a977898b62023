// What is drawn on a picture: box, label, bars of the probabilities, and how the app is doing.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "seen.hpp"

namespace edgefer::app {

/// What the overlay says beside the faces.
struct Status {
  std::optional<double> fps;
  std::string engine;  ///< e.g. "mini_xception INT8"
};

/// Draw faces and status onto `pixels`, the frame's own picture.
void draw(cv::Mat& pixels, const Seen& seen, const std::vector<std::string>& labels, const Status& status);

/// OpenCV's font scale for a picture: readable from 160 to 4,000 lines.
double text_scale(cv::Size size);

}  // namespace edgefer::app
