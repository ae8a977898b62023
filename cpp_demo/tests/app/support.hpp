// What the tests of the app share.
#pragma once

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include <doctest/doctest.h>
#include <unistd.h>

#include "edgefer/error.hpp"
#include "frame.hpp"

namespace support {

/// A folder that is gone after the test.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "edgefer-test-XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::filesystem::path path;
};

inline std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

/// What `work` is refused with: message and hint; fails where it is not.
template <typename Work>
std::string refusal(const Work& work) {
  try {
    work();
  } catch (const edgefer::Error& fault) {
    return fault.what();
  }
  FAIL("nothing was refused");
  return "";
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// A frame of one grey level.
inline edgefer::app::Frame frame(std::int64_t number, cv::Size size = {64, 48}, int level = 90) {
  edgefer::app::Frame made;
  made.number = number;
  made.pixels = cv::Mat(size, CV_8UC3, cv::Scalar::all(level));
  made.time = static_cast<double>(number) / 30.0;
  made.captured = static_cast<double>(number) / 30.0;
  made.clock = 1764000000.5;
  return made;
}

/// A face of the class `label` (−1: unsure) at x, y.
inline edgefer::app::LabelledFace face(int number, int label, double x = 10, double y = 12) {
  edgefer::app::LabelledFace made;
  made.tracked.number = number;
  made.tracked.detection.box = {x, y, 20, 24};
  made.tracked.detection.score = 0.9321;
  made.smoothed.probabilities = {0.1F, 0.7F, 0.2F};
  made.smoothed.label = label;
  return made;
}

}  // namespace support
