// Where results go, and what is drawn on pictures that people look at.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "frame.hpp"

namespace edgefer::app {

/// Takes every frame that was labelled.
class Sink {
 public:
  virtual ~Sink() = default;

  /// Whether the overlay has to be drawn for it.
  virtual bool wants_picture() const = 0;
  /// Take one frame; false asks the app to end. Throws Error.
  virtual bool write(const LabelledFrame& labelled) = 0;
  /// Finish what was written, so that it can be used. Throws Error; a second call does nothing.
  virtual void close() = 0;
};

/// A window; q, Esc or its closing button end the app. With `stays`, each picture stays until a key is pressed, as
/// single ones must: the next would hide it at once; `is_over` ends that too. Throws Error where there is no display.
std::unique_ptr<Sink> open_window(const std::string& title, bool stays, std::function<bool()> is_over);

/// A video with the overlay in it, MPEG-4 in mp4. It gets its name when it is closed, and plays then. With `live`,
/// frames come at their own times and are repeated or left out so that the video runs at the right speed.
std::unique_ptr<Sink> open_video(const std::filesystem::path& path, double fps, bool live);

/// A line of JSON for each face of each frame, written at once; `-` is stdout. With `video`, events carry the position
/// in it.
std::unique_ptr<Sink> open_events(const std::string& path, std::vector<std::string> labels, bool video);

/// MJPEG over HTTP: `/` (a page), `/stream` and `/snapshot.jpg`. A slow visitor misses frames. Throws Error.
std::unique_ptr<Sink> open_stream(const std::string& host, int port);

/// Whether a display is named, on which a window could be opened.
bool has_display();

/// Open one and end: what the program does for `--try-window`. The exit code, if OpenCV comes back at all.
int try_window();

/// What the overlay says beside the faces.
struct Status {
  std::optional<double> fps;
  std::string engine;  ///< e.g. "mini_xception INT8"
};

/// Draw faces and status onto `pixels`, the frame's own picture.
void draw(cv::Mat& pixels, const LabelledFrame& labelled, const std::vector<std::string>& labels, const Status& status);

}  // namespace edgefer::app
