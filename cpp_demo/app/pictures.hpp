// Picture files to uint8 BGR, whatever depth or channels they come with.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include <opencv2/core.hpp>

#include "source.hpp"

namespace edgefer::app {

/// Whether the suffix is one of a picture file.
bool is_picture(const std::filesystem::path& path);

/// Read one file: turned upright by EXIF, 16 bits brought to 8, what is transparent shows white. Throws Error.
cv::Mat read_picture(const std::filesystem::path& path);

/// Bring a picture of any depth and channels that OpenCV decodes into uint8 H×W×3 BGR. Throws Error.
cv::Mat to_bgr(const cv::Mat& found, const std::string& name);

/// One picture file, or a folder of them in the order of their names; each stands for itself.
std::unique_ptr<Source> open_pictures(const std::filesystem::path& path);

/// Numbered pictures as a film: `folder/frame%04d.png`. Numbers may be missing, which is said.
std::unique_ptr<Source> open_sequence(const std::string& pattern);

/// Whether `text` is the pattern of numbered pictures.
bool is_sequence(const std::string& text);

}  // namespace edgefer::app
