// Where results go.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "seen.hpp"

namespace edgefer::app {

/// Takes every frame that was seen.
class Sink {
 public:
  virtual ~Sink() = default;

  /// Whether the overlay has to be drawn for it.
  virtual bool wants_picture() const = 0;
  /// Take one frame; false asks the app to end. Throws Error.
  virtual bool write(const Seen& seen) = 0;
  /// Finish what was written, so that it can be used. Throws Error; a second call does nothing.
  virtual void close() = 0;
};

/// A window; q, Esc or its closing button end the app. With `stays`, each picture stays until a key is pressed, as
/// single ones must: the next would hide it at once; `is_over` ends that too. Throws Error where there is no display.
std::unique_ptr<Sink> open_window(const std::string& title, bool stays, std::function<bool()> is_over);

/// A film with the overlay in it, MPEG-4 in mp4. It gets its name when it is closed, and plays then. With `live`,
/// frames come at their own times and are repeated or left out so that the film runs at the right speed.
std::unique_ptr<Sink> open_film(const std::filesystem::path& path, double fps, bool live);

/// A line of JSON for each face of each frame, written at once; `-` is stdout. With `film`, events carry the position
/// in it.
std::unique_ptr<Sink> open_events(const std::string& path, std::vector<std::string> labels, bool film);

/// MJPEG over HTTP: `/` (a page), `/stream` and `/snapshot.jpg`. A slow visitor misses frames. Throws Error.
std::unique_ptr<Sink> open_stream(const std::string& host, int port);

/// Whether a display is named, on which a window could be opened.
bool has_display();

/// Open one and end: what the program does for `--try-window`. The exit code, if OpenCV comes back at all.
int try_window();

}  // namespace edgefer::app
