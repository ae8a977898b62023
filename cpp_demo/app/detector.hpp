// What every face detector looks like from outside.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "edgefer/tracking.hpp"
#include "frame.hpp"

namespace edgefer::app {

/// Finds faces. A further one needs this and a line in open_detector().
class Detector {
 public:
  virtual ~Detector() = default;

  /// The faces in the frame's picture, sorted by falling score.
  virtual std::vector<Detection> detect(const Frame& frame) = 0;
  /// In how many pictures of a video a face must be found before it is believed.
  virtual int confirmations() const { return 1; }
};

/// How a detector is opened.
struct DetectorOptions {
  double smallest = 60.0;  ///< width in pixels of the smallest face to find; larger is faster
  int threads = 1;         ///< of the runtime
};

/// Open what a user names: `haar`, `yunet` (from the user's cache), or the path of a YuNet file (.onnx, or a TensorRT
/// .engine of it). Throws Error.
std::unique_ptr<Detector> open_detector(const std::string& spec, const DetectorOptions& options);

/// YuNet over a Session.
std::unique_ptr<Detector> open_yunet(const std::filesystem::path& path, const DetectorOptions& options);

/// Boxes that a file gives for each frame, as --events writes them: lines of JSON with `frame` and `box`.
std::unique_ptr<Detector> open_given_boxes(const std::filesystem::path& path);

/// `pixels` at a smaller size: averaged where much smaller, else interpolated, which takes a sixth of the time.
cv::Mat shrunk(const cv::Mat& pixels, cv::Size size);

}  // namespace edgefer::app
