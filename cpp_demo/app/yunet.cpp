// YuNet in any runtime that this build has: the network runs as a Session, its outputs are decoded here. The file is
// face_detection_yunet_2023mar.onnx of OpenCV's zoo (MIT): BGR float32 1×3×H×W, 0 to 255, in.
#include "yunet.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <list>
#include <numeric>
#include <set>

#include <unistd.h>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "detector.hpp"
#include "edgefer/session.hpp"
#include "notices.hpp"

namespace edgefer::app {
namespace fs = std::filesystem;

namespace {

constexpr float kConfidence = 0.5F;
constexpr double kOverlap = 0.3;      // of two boxes that overlap by more, the worse is left out; OpenCV's default
constexpr double kFacePixels = 40.0;  // width of the smallest face in what is searched: edgefer/camera/detectors.py
constexpr std::size_t kKeptSizes = 4;
constexpr int kKeptPixels = 8'000'000;  // of all inputs together, as in edgefer/camera/detectors.py

int padded(int size) { return (size + 31) / 32 * 32; }

int scaled(int size, double scale) { return std::max(1, static_cast<int>(std::lrint(size * scale))); }

Error not_yunet(const fs::path& path, const std::string& why) {
  return Error(path.string() + " is not YuNet: " + why,
               "--detector takes face_detection_yunet_2023mar.onnx of OpenCV's zoo");
}

std::string read_model(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || !fs::is_regular_file(path)) {
    throw Error("there is no face detector " + path.string(),
                "--detector FILE is YuNet; --detector haar needs no file");
  }
  return {std::istreambuf_iterator<char>(file), {}};
}

/// A file that is gone when this is.
class TemporaryFile {
 public:
  TemporaryFile(const std::string& content, const std::string& suffix) {
    std::string name = (fs::temp_directory_path() / ("edgefer-XXXXXX" + suffix)).string();
    const int file = mkstemps(name.data(), static_cast<int>(suffix.size()));
    if (file < 0) throw Error("cannot write into " + fs::temp_directory_path().string(), "TMPDIR names another folder");
    path_ = name;
    const auto written = ::write(file, content.data(), content.size());
    ::close(file);
    if (written != static_cast<ssize_t>(content.size())) {
      fs::remove(path_);
      throw Error("cannot write " + name + ": is the disk full?", "TMPDIR names another folder");
    }
  }
  ~TemporaryFile() {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

class Yunet final : public Detector {
 public:
  Yunet(const fs::path& path, const DetectorOptions& options) : path_(path), options_(options) {
    if (path.extension() == ".engine") {  // its size was chosen when it was built
      if (!fs::is_regular_file(path)) read_model(path);
      sessions_.push_back({{}, open_session("tensorrt", path, session_options())});
      const auto& inputs = sessions_.front().session->inputs();
      if (inputs.size() != 1 || inputs[0].shape.size() != 4) throw not_yunet(path, "it has another input");
      fixed_ = cv::Size(static_cast<int>(inputs[0].shape[3]), static_cast<int>(inputs[0].shape[2]));
      if (fixed_->width % 32 != 0 || fixed_->height % 32 != 0 || fixed_->area() <= 0) {
        throw not_yunet(path, "its input has no fixed size of whole 32 pixels");
      }
      sessions_.front().size = *fixed_;
      check_outputs(outputs_of(*sessions_.front().session));
      return;
    }
    model_ = read_model(path);
    const OnnxNames names = onnx_names(model_, path.string());
    if (names.inputs != std::vector<std::string>{"input"}) throw not_yunet(path, "it has another input");
    check_outputs({names.outputs.begin(), names.outputs.end()});
    session({32, 32});  // a runtime that is not here is said now, not at the first picture
    sessions_.clear();
  }

  std::vector<Detection> detect(const Frame& frame) override {
    const cv::Mat& pixels = frame.pixels;
    double scale = std::min(1.0, kFacePixels / options_.smallest);
    if (fixed_) {
      scale = std::min({1.0, static_cast<double>(fixed_->width) / pixels.cols,  //
                        static_cast<double>(fixed_->height) / pixels.rows});
    }
    const cv::Size inner(scaled(pixels.cols, scale), scaled(pixels.rows, scale));
    const cv::Size outer = fixed_.value_or(cv::Size(padded(inner.width), padded(inner.height)));
    Session& network = session(outer);
    fill(network.input("input", {1, 3, outer.height, outer.width}),
         inner == pixels.size() ? pixels : shrunk(pixels, inner), outer);
    network.run();
    auto faces = decode_yunet(outputs(network, outer), outer.height, outer.width, kConfidence);
    return resolved(faces, static_cast<double>(pixels.cols) / inner.width,
                    static_cast<double>(pixels.rows) / inner.height);
  }

 private:
  struct Sized {
    cv::Size size;
    std::unique_ptr<Session> session;
  };

  SessionOptions session_options() const { return {options_.threads, "fp32"}; }

  static std::set<std::string> outputs_of(const Session& session) {
    std::set<std::string> names;
    for (const auto& output : session.outputs()) names.insert(output.name);
    return names;
  }

  void check_outputs(const std::set<std::string>& found) const {
    std::set<std::string> wanted;
    for (const int stride : kYunetStrides) {
      for (const auto* kind : {"cls_", "obj_", "bbox_", "kps_"}) wanted.insert(kind + std::to_string(stride));
    }
    if (found == wanted) return;
    std::string list;
    for (const auto& name : found) list += (list.empty() ? "" : ", ") + name;
    throw not_yunet(path_, "its outputs are " + (list.empty() ? "none" : list));
  }

  /// One session a size of picture: the file has its input's size baked in.
  Session& session(cv::Size size) {
    for (auto& each : sessions_) {
      if (each.size == size) return *each.session;
    }
    const auto add = [](int sum, const Sized& each) { return sum + each.size.area(); };
    while (sessions_.size() >= kKeptSizes || (!sessions_.empty() && std::accumulate(sessions_.begin(), sessions_.end(),
                                                                                    size.area(), add) > kKeptPixels)) {
      sessions_.pop_front();
    }
    const TemporaryFile file(with_input_size(model_, size.height, size.width, path_.string()), ".onnx");
    sessions_.push_back({size, open_session("openvino", file.path(), session_options())});
    return *sessions_.back().session;
  }

  /// Planes of floats, with black right of and below `small`.
  static void fill(void* memory, const cv::Mat& small, cv::Size outer) {
    std::vector<cv::Mat> planes;
    cv::split(small, planes);
    auto* at = static_cast<float*>(memory);
    for (const cv::Mat& plane : planes) {
      cv::Mat whole(outer, CV_32F, at);
      plane.convertTo(whole(cv::Rect({0, 0}, small.size())), CV_32F);
      whole.colRange(small.cols, outer.width).setTo(0);
      whole.rowRange(small.rows, outer.height).setTo(0);
      at += outer.area();
    }
  }

  std::array<YunetStride, 3> outputs(const Session& network, cv::Size size) const {
    std::array<YunetStride, 3> found;
    for (std::size_t i = 0; i < found.size(); ++i) {
      const int stride = kYunetStrides[i];
      const auto cells = static_cast<std::size_t>(size.area() / (stride * stride));
      const auto values = [&](const std::string& kind, std::size_t each) {
        const TensorView view = network.output(kind + std::to_string(stride));
        if (view.type != Type::f32 || view.size() != cells * each)
          throw not_yunet(path_, "its outputs have other shapes");
        return view.as<float>();
      };
      found[i] = {values("cls_", 1), values("obj_", 1), values("bbox_", 4), values("kps_", 10)};
    }
    return found;
  }

  /// In pixels of the picture, which is `across` times as wide and `down` times as high as what was searched.
  std::vector<Detection> resolved(std::vector<Detection>& faces, double across, double down) const {
    std::vector<Box> boxes;
    std::vector<double> scores;
    for (Detection& face : faces) {
      face.box = {face.box.x * across, face.box.y * down, face.box.width * across, face.box.height * down};
      for (Point& point : *face.landmarks) {
        point = {static_cast<float>(static_cast<double>(point.x) * across),
                 static_cast<float>(static_cast<double>(point.y) * down)};
      }
      face.crop = face_square(face.box, *face.landmarks);
      boxes.push_back(face.box);
      scores.push_back(face.score);
    }
    std::vector<Detection> kept;
    for (const std::size_t index : suppress(boxes, scores, kOverlap)) {
      if (faces[index].box.width >= 0.8 * options_.smallest) kept.push_back(faces[index]);
    }
    return kept;
  }

  const fs::path path_;
  const DetectorOptions options_;
  std::optional<cv::Size> fixed_;
  std::string model_;
  std::list<Sized> sessions_;
};

constexpr std::size_t kCandidates = 2000;  // of a stride
constexpr double kSideOfBox = 1.1;  // FER2013's square over the mean of the box's sides: edgefer/camera/detectors.py
constexpr double kPi = 3.14159265358979323846;

struct Cell {
  std::size_t index;
  float score;
};

/// The cells that are sure enough, the surest first.
std::vector<Cell> sure_cells(const YunetStride& output, std::size_t count, float confidence) {
  std::vector<Cell> cells;
  for (std::size_t i = 0; i < count; ++i) {
    const float score =
        std::sqrt(std::clamp(output.scores[i], 0.0F, 1.0F) * std::clamp(output.objectness[i], 0.0F, 1.0F));
    if (score >= confidence) cells.push_back({i, score});
  }
  std::stable_sort(cells.begin(), cells.end(), [](const Cell& a, const Cell& b) { return a.score > b.score; });
  if (cells.size() > kCandidates) cells.resize(kCandidates);
  return cells;
}

Detection face_of(const YunetStride& output, const Cell& cell, int stride, std::size_t columns) {
  const auto column = static_cast<double>(cell.index % columns), row = static_cast<double>(cell.index / columns);
  const float* box = output.boxes + 4 * cell.index;
  const float* points = output.points + 10 * cell.index;
  const auto extent = [&](float value) {
    return std::exp(std::clamp(static_cast<double>(value), -20.0, 20.0)) * stride;
  };
  Detection found;
  const double width = extent(box[2]), height = extent(box[3]);
  found.box = {(column + static_cast<double>(box[0])) * stride - width / 2,
               (row + static_cast<double>(box[1])) * stride - height / 2, width, height};
  found.score = static_cast<double>(cell.score);
  Landmarks landmarks;
  for (std::size_t i = 0; i < landmarks.size(); ++i) {
    landmarks[i] = {static_cast<float>((column + static_cast<double>(points[2 * i])) * stride),
                    static_cast<float>((row + static_cast<double>(points[2 * i + 1])) * stride)};
  }
  found.landmarks = landmarks;
  return found;
}

}  // namespace

std::unique_ptr<Detector> open_yunet(const fs::path& path, const DetectorOptions& options) {
  return std::make_unique<Yunet>(path, options);
}

std::vector<Detection> decode_yunet(const std::array<YunetStride, 3>& outputs, int height, int width,
                                    float confidence) {
  std::vector<Detection> faces;
  for (std::size_t i = 0; i < kYunetStrides.size(); ++i) {
    const int stride = kYunetStrides[i];
    const auto columns = static_cast<std::size_t>(width / stride), rows = static_cast<std::size_t>(height / stride);
    for (const Cell& cell : sure_cells(outputs[i], columns * rows, confidence)) {
      faces.push_back(face_of(outputs[i], cell, stride, columns));
    }
  }
  return faces;
}

Square face_square(const Box& box, const Landmarks& points) {
  const double across = static_cast<double>(points[1].x) - static_cast<double>(points[0].x);
  const double down = static_cast<double>(points[1].y) - static_cast<double>(points[0].y);
  const double side = kSideOfBox * std::max(std::sqrt(box.width * box.height), 1.0);
  return {box.x + box.width / 2, box.y + box.height / 2, side, std::atan2(down, across) * 180.0 / kPi};
}

}  // namespace edgefer::app
