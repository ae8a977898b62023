#include "source.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <regex>
#include <vector>

#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "notices.hpp"

namespace edgefer::app {
namespace fs = std::filesystem;

namespace {

constexpr std::array kSuffixes{".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"};
const std::regex kNumber("%0?(\\d*)d");

std::vector<unsigned char> read_bytes(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || fs::is_directory(path)) {
    throw Error("cannot read " + path.string() + ": " + (errno ? std::strerror(errno) : "it is no file"),
                "check the path");
  }
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string looks_like(const std::vector<unsigned char>& content) {
  std::string text;
  for (const unsigned char byte : content) {
    if (text.size() == 24 || byte == '\n' || byte == '\r') break;
    if (byte < 32 || byte > 126) return "it is a file of another kind";
    text += static_cast<char>(byte);
  }
  return "it begins with the text '" + text + "'";
}

/// Transparent parts show white, as viewers do.
cv::Mat on_white(const cv::Mat& found) {
  cv::Mat whole(found.size(), CV_8UC3);
  for (int row = 0; row < found.rows; ++row) {
    const auto* from = found.ptr<cv::Vec4b>(row);
    auto* to = whole.ptr<cv::Vec3b>(row);
    for (int column = 0; column < found.cols; ++column) {
      const int alpha = from[column][3];
      for (int channel = 0; channel < 3; ++channel) {
        const int value = from[column][channel] * alpha + 255 * (255 - alpha) + 127;
        to[column][channel] = static_cast<unsigned char>(value / 255);
      }
    }
  }
  return whole;
}

/// Files one after the other.
class PictureSource final : public Source {
 public:
  PictureSource(const std::string& name, bool stills, std::vector<fs::path> files)
      : Source(name, false, stills), files_(std::move(files)) {}

  std::optional<cv::Mat> read() override {
    const std::size_t index = next_.fetch_add(1);
    if (closed_ || index >= files_.size()) return std::nullopt;
    return read_picture(files_[index]);
  }

  void close() override { closed_ = true; }

 private:
  const std::vector<fs::path> files_;
  std::atomic<std::size_t> next_{0};
  std::atomic<bool> closed_{false};
};

/// The files in `folder` whose names `wanted` accepts; Error if the folder cannot be read.
template <typename Wanted>
std::vector<fs::path> list(const fs::path& folder, const Wanted& wanted) {
  std::error_code fault;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder.empty() ? fs::path(".") : folder, fault)) {
    if (wanted(entry.path())) files.push_back(entry.path());
  }
  if (fault) throw Error("cannot read the folder " + folder.string() + ": " + fault.message(), "check the path");
  return files;
}

}  // namespace

bool is_picture(const fs::path& path) {
  std::string suffix = path.extension().string();
  std::transform(suffix.begin(), suffix.end(), suffix.begin(), [](unsigned char c) { return std::tolower(c); });
  return std::find(kSuffixes.begin(), kSuffixes.end(), suffix) != kSuffixes.end();
}

cv::Mat read_picture(const fs::path& path) {
  errno = 0;
  const auto content = read_bytes(path);
  const std::string name = path.string();
  if (content.empty()) throw Error(name + " is empty", "copy it again");
  // A JPEG may have to be turned, which OpenCV does only where it may also drop transparency; a JPEG has none.
  const bool jpeg = content.size() > 2 && content[0] == 0xFF && content[1] == 0xD8;
  cv::Mat found;
  try {
    found = cv::imdecode(content, jpeg ? cv::IMREAD_COLOR : cv::IMREAD_UNCHANGED);
  } catch (const cv::Exception& cause) {  // larger than kMaxPixels of main.cpp
    throw Error(name + " cannot be decoded: " + cause.err, "shrink it first");
  }
  if (found.empty()) {
    throw Error(name + " is not a picture, or it is damaged: " + looks_like(content),
                "give a JPEG, PNG, WebP, BMP or TIFF file");
  }
  return to_bgr(found, name);
}

cv::Mat to_bgr(const cv::Mat& found, const std::string& name) {
  if (found.empty()) throw Error(name + " has no pixels", "skip empty frames");
  cv::Mat pixels = found;
  if (pixels.depth() == CV_16U) found.convertTo(pixels, CV_8U, 1.0 / 257.0);  // 65535 becomes 255
  const int channels = pixels.channels();
  if (pixels.depth() != CV_8U || (channels != 1 && channels != 3 && channels != 4)) {
    throw Error(name + " has " + std::to_string(channels) + " channels of " + cv::typeToString(pixels.type()),
                "pictures have 1, 3 or 4 channels of 8 or 16 bits: convert it first");
  }
  if (channels == 4) return on_white(pixels);
  if (channels == 1) {
    cv::Mat colour;
    cv::cvtColor(pixels, colour, cv::COLOR_GRAY2BGR);
    return colour;
  }
  return pixels;
}

std::unique_ptr<Source> open_pictures(const fs::path& path) {
  std::vector<fs::path> files{path};
  if (fs::is_directory(path)) {
    files = list(path, is_picture);
    std::sort(files.begin(), files.end());
    if (files.empty())
      throw Error("the folder " + path.string() + " has no pictures", "it is searched for .png, .jpg, …");
  }
  return std::make_unique<PictureSource>(path.string(), true, std::move(files));
}

bool is_sequence(const std::string& text) { return is_picture(text) && std::regex_search(text, kNumber); }

std::unique_ptr<Source> open_sequence(const std::string& pattern) {
  const fs::path path(pattern);
  const std::string name = path.filename().string();
  std::smatch place;
  if (!std::regex_search(name, place, kNumber)) {
    throw Error("'" + pattern + "' numbers folders, not pictures", "--source frames/%04d.png");
  }
  const std::size_t before = static_cast<std::size_t>(place.position());
  const std::string after = place.suffix();
  const auto number = [&](const fs::path& file) -> long long {
    const std::string found = file.filename().string();
    if (found.size() <= before + after.size() || found.compare(0, before, name, 0, before) != 0) return -1;
    if (found.compare(found.size() - after.size(), after.size(), after) != 0) return -1;
    const std::string digits = found.substr(before, found.size() - before - after.size());
    const bool fits = digits.size() <= 18 &&
                      std::all_of(digits.begin(), digits.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
    return fits ? std::stoll(digits) : -1;
  };
  auto files = list(path.parent_path(), [&](const fs::path& file) { return number(file) >= 0; });
  if (files.empty()) throw Error("there are no pictures " + pattern, "%04d stands for four digits");
  std::sort(files.begin(), files.end(),
            [&](const auto& one, const auto& other) { return number(one) < number(other); });
  const auto missing = number(files.back()) - number(files.front()) + 1 - static_cast<long long>(files.size());
  if (missing > 0) announce("note: " + std::to_string(missing) + " numbers of " + pattern + " are missing");
  return std::make_unique<PictureSource>(pattern, false, std::move(files));
}

}  // namespace edgefer::app
