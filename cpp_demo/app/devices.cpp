#include "devices.hpp"

#include <algorithm>
#include <fstream>
#include <regex>
#include <utility>

#include <dlfcn.h>
#include <opencv2/videoio/registry.hpp>

namespace edgefer::app {
namespace fs = std::filesystem;

namespace {

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const auto& part : parts) text += (text.empty() ? "" : ", ") + part;
  return text;
}

/// The names of the elements in a pipeline, without caps and references to pads.
std::vector<std::string> elements(const std::string& pipeline) {
  static const std::regex kElement("(?:^|!)\\s*([A-Za-z][A-Za-z0-9_-]*)(?=\\s|!|$)");
  std::vector<std::string> names;
  for (std::sregex_iterator found(pipeline.begin(), pipeline.end(), kElement), end; found != end; ++found) {
    names.push_back((*found)[1]);
  }
  return names;
}

/// The first of `names` that GStreamer does not know; empty if it knows all, or cannot be asked.
std::string unknown_element(const std::vector<std::string>& names) {
  // Asked through the library that OpenCV itself has loaded, so that nothing has to be linked for it.
  void* library = dlopen("libgstreamer-1.0.so.0", RTLD_LAZY);
  if (library == nullptr) return "";
  using Init = int (*)(int*, char***, void**);
  using Find = void* (*)(const char*);
  const auto init = reinterpret_cast<Init>(dlsym(library, "gst_init_check"));
  const auto find = reinterpret_cast<Find>(dlsym(library, "gst_element_factory_find"));
  if (init == nullptr || find == nullptr || init(nullptr, nullptr, nullptr) == 0) return "";
  const auto unknown =
      std::find_if(names.begin(), names.end(), [&](const auto& name) { return find(name.c_str()) == nullptr; });
  return unknown == names.end() ? "" : *unknown;
}

}  // namespace

std::vector<std::string> cameras(const fs::path& folder) {
  std::error_code missing;
  std::vector<fs::path> entries;
  for (const auto& entry : fs::directory_iterator(folder, missing)) entries.push_back(entry.path());
  std::sort(entries.begin(), entries.end(), [](const fs::path& one, const fs::path& other) {
    const std::string a = one.filename().string(), b = other.filename().string();
    return std::pair(a.size(), a) < std::pair(b.size(), b);  // video9 before video10
  });
  std::vector<std::string> found;
  for (const auto& entry : entries) {
    // One camera has several nodes; index 0 is the one that gives pictures.
    if (fs::exists(entry / "index") && first_line(entry / "index") != "0") continue;
    const std::string name = entry.filename().string(), title = first_line(entry / "name");
    if (name.rfind("video", 0) != 0) continue;
    found.push_back(name.substr(5) + " (" + (title.empty() ? "unnamed" : title) + ")");
  }
  return found;
}

Error no_camera(int index, const fs::path& folder) {
  const auto found = cameras(folder);
  const std::string number = std::to_string(index);
  if (found.empty()) {
    return Error("camera " + number + " does not open: this machine has no camera",
                 "plug one in, or give a film, rtsp://… or csi://0 (a Jetson's port) as --source; in a container, pass "
                 "the device through (docker run --device /dev/video0)");
  }
  const auto is_it = [&](const std::string& entry) { return entry.substr(0, entry.find(' ')) == number; };
  if (std::any_of(found.begin(), found.end(), is_it)) {
    return Error(
        "camera " + number + " is there and does not open: another program may hold it, or you may not read it",
        "close the other program (`fuser /dev/video" + number + "`), or add yourself to the group 'video'");
  }
  return Error("there is no camera " + number + "; this machine has " + joined(found),
               "--source " + found.front().substr(0, found.front().find(' ')));
}

void check_gstreamer(const std::string& pipeline, const std::string& name) {
  const auto backends = cv::videoio_registry::getStreamBackends();
  if (std::find(backends.begin(), backends.end(), cv::CAP_GSTREAMER) == backends.end()) {
    throw Error(name + " needs GStreamer, and this OpenCV was built without it",
                "install the system's OpenCV and gstreamer1.0-plugins-base and -good; a webcam or rtsp:// needs none");
  }
  const std::string unknown = unknown_element(elements(pipeline));
  if (unknown.empty()) return;
  const bool jetson = unknown.rfind("nv", 0) == 0;
  throw Error(name + " needs the GStreamer element '" + unknown + "', which is not installed",
              jetson ? "it comes with JetPack; in a container, use NVIDIA's l4t images with the camera passed through"
                     : "gst-inspect-1.0 lists what there is; gstreamer1.0-plugins-base and -good have most");
}

}  // namespace edgefer::app
