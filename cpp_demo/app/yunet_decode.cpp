#include "yunet_decode.hpp"

#include <algorithm>
#include <cmath>

namespace edgefer::app {
namespace {

constexpr std::size_t kCandidates = 2000;  // of a stride
constexpr double kSideOfBox =
    1.1;  // FER2013's square over the mean of the box's sides: measured in edgefer/camera/yunet.py
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
