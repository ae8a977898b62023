// Where pictures come from: cameras, streams, films, folders and numbered pictures, all with one face.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <opencv2/core.hpp>

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
  std::optional<double> fps;       ///< pictures a second as the source states them
  std::atomic<int> reconnects{0};  ///< times that it came back
};

/// What to ask of a source, beside its name.
struct SourceWishes {
  std::optional<cv::Size> size;  ///< of a camera
  double patience = 30.0;        ///< seconds for which a live source that stops is tried again
};

/// Open what a user names: `0`, `/dev/video0` or a link to it (webcam), `csi://0` (a Jetson's camera port), `rtsp://…`,
/// `http://…`, a GStreamer pipeline with ` ! ` in it, a film, a picture, a folder of pictures (each for itself), or
/// numbered pictures as a film (`frames/%04d.png`). Throws Error.
std::unique_ptr<Source> open_source(const std::string& text, const SourceWishes& wishes);

/// The pipeline for a camera on a Jetson's CSI port: its ISP gives NV12, OpenCV wants BGR.
std::string csi_pipeline(int sensor, cv::Size size);

/// `rtsp://user:secret@host/a?token=b` as `rtsp://user:…@host/a?…`: messages end up in logs.
std::string without_password(const std::string& url);

}  // namespace edgefer::app
