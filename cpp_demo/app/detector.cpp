#include "detector.hpp"

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>

#include <nlohmann/json.hpp>
#include <opencv2/imgproc.hpp>

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

}  // namespace

std::unique_ptr<Detector> open_given_boxes(const fs::path& path) { return std::make_unique<GivenBoxes>(path); }

std::unique_ptr<Detector> open_detector(const std::string& spec, const DetectorWishes& wishes) {
  if (!(wishes.smallest >= 10)) {
    throw Error("the smallest face is at least 10 pixels wide, not " + shortest(wishes.smallest),
                "--smallest-face 60; larger is faster");
  }
  if (spec == "haar") return open_haar(wishes.smallest);
  if (spec == "yunet") {
    if (!fs::is_regular_file(cached_yunet())) {
      throw Error(
          "YuNet is not in the cache: there is no " + cached_yunet().string(),
          std::string("fetch ") + kYunetFile + " of OpenCV's zoo and pass --detector FILE; --detector haar needs none");
    }
    return open_yunet(cached_yunet(), wishes);
  }
  const auto suffix = fs::path(spec).extension();
  if (suffix == ".onnx" || suffix == ".engine") return open_yunet(spec, wishes);
  throw Error("no face detector is called '" + spec + "'",
              "--detector haar, yunet, or the path of a YuNet file: .onnx, or an .engine made of it");
}

cv::Mat shrunk(const cv::Mat& pixels, cv::Size size) {
  cv::Mat small;
  cv::resize(pixels, small, size, 0, 0, 2 * size.height <= pixels.rows ? cv::INTER_AREA : cv::INTER_LINEAR);
  return small;
}

}  // namespace edgefer::app
