#include "detector.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <numeric>

#include <nlohmann/json.hpp>
#include <opencv2/imgproc.hpp>
#include <opencv2/objdetect.hpp>

#include "notices.hpp"

namespace edgefer::app {
namespace fs = std::filesystem;

namespace {

constexpr auto kYunetFile = "face_detection_yunet_2023mar.onnx";

/// Where `edgefer` in Python keeps the YuNet that it downloaded and checked.
fs::path cached_yunet() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const fs::path base = cache != nullptr && *cache != '\0' ? fs::path(cache) : fs::path(home ? home : "/") / ".cache";
  return base / "edgefer" / kYunetFile;
}

class GivenBoxes final : public Detector {
 public:
  explicit GivenBoxes(const fs::path& path) {
    std::ifstream file(path);
    if (!file || fs::is_directory(path)) throw Error("cannot read the boxes " + path.string(), "check the path");
    std::string line;
    for (int number = 1; std::getline(file, line); ++number) {
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      try {
        const auto entry = nlohmann::json::parse(line);
        const auto box = entry.at("box").get<std::vector<double>>();
        const auto frame = entry.at("frame").get<std::int64_t>();
        add(frame, box, entry.value("score", 1.0));
      } catch (const std::exception& cause) {
        throw Error(path.string() + ", line " + std::to_string(number) + ", is no box: " + cause.what(),
                    R"(lines are like {"frame": 0, "box": [x, y, width, height]}, as --events writes them)");
      }
    }
  }

  std::vector<Detection> detect(const Frame& frame) override {
    const auto found = boxes_.find(frame.number);
    return found == boxes_.end() ? std::vector<Detection>{} : found->second;
  }

 private:
  void add(std::int64_t frame, const std::vector<double>& box, double score) {
    if (box.size() != 4) throw std::invalid_argument("a box has four numbers");
    if (!(box[2] >= 1 && box[3] >= 1) || !std::isfinite(box[0] + box[1] + box[2] + box[3])) {
      throw std::invalid_argument("a box is at least a pixel wide and high");
    }
    Detection found;
    found.box = {box[0], box[1], box[2], box[3]};
    found.score = score;
    found.crop = {box[0] + box[2] / 2, box[1] + box[3] / 2, std::sqrt(box[2] * box[3]), 0.0};
    boxes_[frame].push_back(found);
  }

  std::map<std::int64_t, std::vector<Detection>> boxes_;
};

constexpr auto kCascade = "haarcascade_frontalface_default.xml";
constexpr std::array kFolders{"/usr/share/opencv4/haarcascades", "/usr/share/opencv/haarcascades",
                              "/usr/local/share/opencv4/haarcascades"};
constexpr double kFacePixels = 28.0;  // the smallest face is so wide in what is searched; the cascade's window has 24
constexpr double kScaleStep = 1.15;
constexpr int kNeighbours = 5;
// The last stage's margin has no upper bound; faces have 1 to 6, and 1 is where wrong finds end.
constexpr double kSureMargin = 5.0;

fs::path cascade_file() {
  for (const auto* folder : kFolders) {
    if (fs::is_regular_file(fs::path(folder) / kCascade)) return fs::path(folder) / kCascade;
  }
  throw Error(std::string(kCascade) + " is not where OpenCV keeps it (" + kFolders[0] + ", …)",
              "apt install opencv-data, or --detector YUNET.onnx");
}

class Haar final : public Detector {
 public:
  explicit Haar(double smallest) : smallest_(smallest) {
    if (!cascade_.load(cascade_file().string())) {
      throw Error("OpenCV cannot read " + cascade_file().string(), "apt install --reinstall opencv-data");
    }
  }

  int confirmations() const override { return 2; }

  std::vector<Detection> detect(const Frame& frame) override {
    const double scale = std::min(1.0, kFacePixels / smallest_);
    cv::Mat grey;
    cv::cvtColor(frame.pixels, grey, cv::COLOR_BGR2GRAY);
    if (scale < 1.0) {
      const auto side = [&](int length) { return std::max(1, static_cast<int>(std::lrint(length * scale))); };
      grey = shrunk(grey, {side(grey.cols), side(grey.rows)});
    }
    const int min_side = std::max(24, static_cast<int>(std::lrint(smallest_ * scale * 0.9)));
    std::vector<cv::Rect> boxes;
    std::vector<int> levels;
    std::vector<double> weights;
    cascade_.detectMultiScale(grey, boxes, levels, weights, kScaleStep, kNeighbours, 0, {min_side, min_side}, {}, true);
    std::vector<std::size_t> order(boxes.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](auto one, auto other) { return weights[one] > weights[other]; });
    std::vector<Detection> found;
    for (const auto index : order) found.push_back(detection(boxes[index], scale, weights[index]));
    return found;
  }

 private:
  static Detection detection(const cv::Rect& box, double scale, double weight) {
    Detection found;
    found.box = {box.x / scale, box.y / scale, box.width / scale, box.height / scale};
    found.score = std::clamp(weight / kSureMargin, 0.0, 1.0);
    // FER2013 was cut with such a cascade: its square is the box, as edgefer/camera/detectors.py measured.
    found.crop = {found.box.x + found.box.width / 2, found.box.y + found.box.height / 2, found.box.width, 0.0};
    return found;
  }

  const double smallest_;
  cv::CascadeClassifier cascade_;
};

}  // namespace

std::unique_ptr<Detector> open_given_boxes(const fs::path& path) { return std::make_unique<GivenBoxes>(path); }

std::unique_ptr<Detector> open_detector(const std::string& spec, const DetectorOptions& options) {
  if (!(options.smallest >= 10)) {
    throw Error("the smallest face is at least 10 pixels wide, not " + shortest(options.smallest),
                "--smallest-face 60; larger is faster");
  }
  if (spec == "haar") return std::make_unique<Haar>(options.smallest);
  if (spec == "yunet") {
    if (!fs::is_regular_file(cached_yunet())) {
      throw Error(
          "YuNet is not in the cache: there is no " + cached_yunet().string(),
          std::string("fetch ") + kYunetFile + " of OpenCV's zoo and pass --detector FILE; --detector haar needs none");
    }
    return open_yunet(cached_yunet(), options);
  }
  const auto suffix = fs::path(spec).extension();
  if (suffix == ".onnx" || suffix == ".engine") return open_yunet(spec, options);
  throw Error("no face detector is called '" + spec + "'",
              "--detector haar, yunet, or the path of a YuNet file: .onnx, or an .engine made of it");
}

cv::Mat shrunk(const cv::Mat& pixels, cv::Size size) {
  cv::Mat small;
  cv::resize(pixels, small, size, 0, 0, 2 * size.height <= pixels.rows ? cv::INTER_AREA : cv::INTER_LINEAR);
  return small;
}

}  // namespace edgefer::app
