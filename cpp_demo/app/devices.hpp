// Which cameras this machine has, for messages that help.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "notices.hpp"

namespace edgefer::app {

/// Each camera as `0 (HD Webcam)`; Linux lists them under /sys/class/video4linux.
std::vector<std::string> cameras(const std::filesystem::path& folder = "/sys/class/video4linux");

/// The error for a camera that does not open: which others exist, or that there is none.
Error no_camera(int index, const std::filesystem::path& folder = "/sys/class/video4linux");

/// Throws Error where this OpenCV was built without GStreamer, or where an element of `pipeline` is not installed:
/// OpenCV would wait for it for ever.
void check_gstreamer(const std::string& pipeline, const std::string& name);

}  // namespace edgefer::app
