// Where pictures come from: cameras, streams, videos, folders and numbered pictures, all with one face.
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <opencv2/core.hpp>

#include "notices.hpp"

namespace edgefer::app {

/// Gives pictures one after the other: uint8 H×W×3, BGR.
class Source {
 public:
  /// `name` is for messages, without passwords; pictures of a `live` source come by themselves and get old; each of a
  /// `stills` source stands for itself.
  Source(std::string name, bool live, bool stills) : name(std::move(name)), live(live), stills(stills) {}
  virtual ~Source() = default;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  /// The next picture in a buffer of its own; nothing at the end. Throws Error if the source is gone.
  virtual std::optional<cv::Mat> read() = 0;
  /// Give the device or file back; also ends a wait inside read(). Any thread may call it.
  virtual void close() = 0;

  const std::string name;
  const bool live;
  const bool stills;
  std::optional<double> fps;       ///< pictures per second as the source states them
  std::atomic<int> reconnects{0};  ///< times that it came back
};

/// What to ask of a source, beside its name.
struct SourceOptions {
  std::optional<cv::Size> size;  ///< of a camera
  double patience = 30.0;        ///< seconds for which a live source that stops is tried again
};

/// Open what a user names: `0`, `/dev/video0` or a link to it (webcam), `csi://0` (a Jetson's camera port), `rtsp://…`,
/// `http://…`, a GStreamer pipeline with ` ! ` in it, a video, a picture, a folder of pictures (each for itself), or
/// numbered pictures as a video (`frames/%04d.png`). Throws Error.
std::unique_ptr<Source> open_source(const std::string& text, const SourceOptions& options);

/// The pipeline for a camera on a Jetson's CSI port: its ISP gives NV12, OpenCV wants BGR.
std::string csi_pipeline(int sensor, cv::Size size);

/// A source without users, passwords and queries: `rtsp://user:secret@host/a?token=b` as `rtsp://…@host/a?…`, of an
/// unknown scheme only that. Messages end up in logs.
std::string without_password(const std::string& text);

/// Whether the suffix is one of a picture file.
bool is_picture(const std::filesystem::path& path);

/// Read one file: turned upright by EXIF, 16 bits brought to 8, what is transparent shows white. Throws Error.
cv::Mat read_picture(const std::filesystem::path& path);

/// Bring a picture of any depth and channels that OpenCV decodes into uint8 H×W×3 BGR. Throws Error.
cv::Mat to_bgr(const cv::Mat& found, const std::string& name);

/// One picture file, or a folder of them in the order of their names; each stands for itself.
std::unique_ptr<Source> open_pictures(const std::filesystem::path& path);

/// Numbered pictures as a video: `folder/frame%04d.png`. Numbers may be missing, which is said.
std::unique_ptr<Source> open_sequence(const std::string& pattern);

/// Whether `text` is the pattern of numbered pictures.
bool is_sequence(const std::string& text);

/// Each camera as `0 (HD Webcam)`; Linux lists them under /sys/class/video4linux.
std::vector<std::string> cameras(const std::filesystem::path& folder = "/sys/class/video4linux");

/// The error for a camera that does not open: which others exist, or that there is none.
Error no_camera(int index, const std::filesystem::path& folder = "/sys/class/video4linux");

}  // namespace edgefer::app
