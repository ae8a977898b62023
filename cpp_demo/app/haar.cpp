// OpenCV's Haar cascade: nothing to download, slower and blinder than YuNet.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include <opencv2/imgproc.hpp>
#include <opencv2/objdetect.hpp>

#include "detector.hpp"
#include "notices.hpp"

namespace edgefer::app {
namespace fs = std::filesystem;

namespace {

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
    const int least = std::max(24, static_cast<int>(std::lrint(smallest_ * scale * 0.9)));
    std::vector<cv::Rect> boxes;
    std::vector<int> levels;
    std::vector<double> weights;
    cascade_.detectMultiScale(grey, boxes, levels, weights, kScaleStep, kNeighbours, 0, {least, least}, {}, true);
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
    // FER2013 was cut with such a cascade: its square is the box, as edgefer/camera/haar.py measured.
    found.crop = {found.box.x + found.box.width / 2, found.box.y + found.box.height / 2, found.box.width, 0.0};
    return found;
  }

  const double smallest_;
  cv::CascadeClassifier cascade_;
};

}  // namespace

std::unique_ptr<Detector> open_haar(double smallest) { return std::make_unique<Haar>(smallest); }

}  // namespace edgefer::app
