#include "sink.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>

#include <opencv2/imgproc.hpp>

#include "notices.hpp"

namespace edgefer::app {
namespace {

/// BGR, a class each; they begin again after the ninth. All carry black or white text.
const std::array<cv::Scalar, 9> kPalette{{{60, 60, 230},
                                          {70, 150, 50},
                                          {200, 80, 160},
                                          {0, 190, 250},
                                          {220, 130, 40},
                                          {60, 140, 250},
                                          {180, 180, 180},
                                          {150, 150, 0},
                                          {90, 60, 140}}};
const cv::Scalar kUnsure{140, 140, 140}, kDark{25, 25, 25}, kLight{245, 245, 245};
constexpr int kFont = cv::FONT_HERSHEY_SIMPLEX;
constexpr double kBarsFrom = 0.16;  // of the picture's height: on smaller faces nobody could read them

/// OpenCV's font scale for a picture: readable from 160 to 4,000 lines.
double text_scale(cv::Size size) { return std::max(0.35, std::min(size.width, size.height) / 900.0); }

int rounded(double value) { return static_cast<int>(std::lrint(value)); }

/// OpenCV's fonts have ASCII only; a question mark stands for each other character.
std::string plain(const std::string& text) {
  std::string ascii;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) ascii += c;
    if (byte >= 0xC0) ascii += '?';
  }
  return ascii;
}

int weight(double scale) { return std::max(1, rounded(1.6 * scale)); }

cv::Size text_size(const std::string& text, double scale) {
  int below = 0;
  return cv::getTextSize(plain(text), kFont, scale, weight(scale), &below);
}

void put(cv::Mat& pixels, const std::string& text, cv::Point at, double scale, const cv::Scalar& colour) {
  cv::putText(pixels, plain(text), at, kFont, scale, colour, weight(scale), cv::LINE_AA);
}

/// Darken a part of the picture, for text.
void shade(cv::Mat& pixels, const cv::Rect& wanted) {
  const cv::Rect part = wanted & cv::Rect(0, 0, pixels.cols, pixels.rows);
  for (int row = part.y; row < part.y + part.height; ++row) {
    auto* bytes = pixels.ptr<unsigned char>(row) + 3 * part.x;
    for (int i = 0; i < 3 * part.width; ++i) bytes[i] = static_cast<unsigned char>(bytes[i] >> 2);
  }
}

const cv::Scalar& readable_on(const cv::Scalar& colour) {
  return 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2] > 140 ? kDark : kLight;
}

cv::Rect whole(const Box& box) {
  return {rounded(box.x), rounded(box.y), rounded(box.width), rounded(box.height)};
}

std::string title_of(const LabelledFace& face, const std::vector<std::string>& labels) {
  if (!face.sure()) return "unsure";
  const auto share = static_cast<double>(face.smoothed.probabilities[face.label()]);
  return labels[face.label()] + " " + fixed(100.0 * share, 0) + "%";
}

/// Above the box, below it, or at its top or bottom inside, each along its left edge and along its right one.
std::vector<cv::Rect> places_of_title(cv::Size picture, const cv::Rect& box, cv::Size text) {
  const int pad = text.height / 2, width = text.width + 2 * pad, height = text.height + 2 * pad;
  const int bottom = box.y + box.height;
  std::vector<cv::Rect> places;
  for (const int top : {box.y - height, bottom, std::max(0, box.y), std::min(bottom, picture.height) - height})
    for (const int left : {box.x, box.x + box.width - width})
      places.emplace_back(std::max(0, std::min(left, picture.width - width)), top, width, height);
  return places;
}

struct BarsSize {
  int names = 0;  ///< of the widest name
  int line = 0;   ///< height of a line
};

BarsSize bars_size(const std::vector<std::string>& labels, double scale) {
  BarsSize size;
  for (const auto& label : labels) size.names = std::max(size.names, text_size(label, 0.75 * scale).width);
  size.line = static_cast<int>(2.1 * text_size("Ag", 0.75 * scale).height);
  return size;
}

/// Right of the box, left of it, below and above.
std::vector<cv::Rect> places_of_bars(cv::Size picture, const cv::Rect& box, const std::vector<std::string>& labels) {
  const auto [names, line] = bars_size(labels, text_scale(picture));
  const int width = names + 5 * line, height = line * static_cast<int>(labels.size()), gap = line / 4;
  const int top = std::max(0, std::min(box.y, picture.height - height));
  const int left = std::max(0, std::min(box.x, picture.width - width));
  return {{box.x + box.width + gap, top, width, height},
          {box.x - width - gap, top, width, height},
          {left, box.y + box.height + gap, width, height},
          {left, box.y - height - gap, width, height}};
}

void draw_bars(cv::Mat& pixels, const LabelledFace& face, const std::vector<std::string>& labels,
               const cv::Rect& place) {
  const double scale = text_scale(pixels.size());
  const auto [names, line] = bars_size(labels, scale);
  shade(pixels, place);
  const int start = place.x + names + line / 2, room = place.x + place.width - line / 4 - start;
  for (std::size_t row = 0; row < labels.size(); ++row) {
    const int base = place.y + static_cast<int>(row) * line;
    put(pixels, labels[row], {place.x + line / 4, base + static_cast<int>(0.72 * line)}, 0.75 * scale, kLight);
    const int end = start + rounded(static_cast<double>(face.smoothed.probabilities[row]) * room);
    cv::rectangle(pixels, {start, base + line / 5}, {end, base + 4 * line / 5}, kPalette[row % kPalette.size()], -1);
  }
}

/// Where labels and bars stand: they cover no other face, and nothing else that was written. The rule is
/// `draw_faces` of edgefer/camera/overlay.py.
class Places {
 public:
  Places(cv::Size picture, std::vector<cv::Rect> boxes, const cv::Rect& status)
      : picture_({0, 0}, picture), boxes_(std::move(boxes)), taken_{status} {}

  /// The first of `places` that is in the picture and free, for the face `index`; it is taken then.
  std::optional<cv::Rect> take(const std::vector<cv::Rect>& places, std::size_t index) {
    for (const auto& place : places)
      if ((place & picture_) == place && free(place, index)) {
        taken_.push_back(place);
        return place;
      }
    return std::nullopt;
  }

 private:
  bool free(const cv::Rect& place, std::size_t index) const {
    for (std::size_t i = 0; i < boxes_.size(); ++i)
      if (i != index && !(boxes_[i] & place).empty()) return false;
    return std::none_of(taken_.begin(), taken_.end(), [&](const auto& other) { return !(other & place).empty(); });
  }

  cv::Rect picture_;
  std::vector<cv::Rect> boxes_;
  std::vector<cv::Rect> taken_;
};

/// Box and label of each face, with bars on the large ones; `faces` are sorted, the largest first.
void draw_faces(cv::Mat& pixels, const std::vector<LabelledFace>& faces, const std::vector<std::string>& labels,
                const cv::Rect& status) {
  const double scale = text_scale(pixels.size());
  std::vector<cv::Rect> boxes;
  for (const auto& face : faces) boxes.push_back(whole(face.tracked.detection.box));
  Places places(pixels.size(), boxes, status);
  std::vector<std::optional<cv::Rect>> titles, bars(faces.size());
  for (std::size_t i = 0; i < faces.size(); ++i) {
    const auto text = text_size(title_of(faces[i], labels), scale);
    titles.push_back(places.take(places_of_title(pixels.size(), boxes[i], text), i));
  }
  for (std::size_t i = 0; i < faces.size(); ++i)
    if (boxes[i].height >= kBarsFrom * pixels.rows)
      bars[i] = places.take(places_of_bars(pixels.size(), boxes[i], labels), i);
  for (std::size_t i = faces.size(); i-- > 0;) {  // the largest last, on top
    const auto& face = faces[i];
    if (bars[i]) draw_bars(pixels, face, labels, *bars[i]);
    const cv::Scalar& colour = face.sure() ? kPalette[face.label() % kPalette.size()] : kUnsure;
    cv::rectangle(pixels, boxes[i].tl(), boxes[i].br(), colour, std::max(1, rounded(3 * scale)));
    if (!titles[i]) continue;
    const auto& title = *titles[i];
    const int bottom = title.y + title.height, pad = title.height / 4;
    cv::rectangle(pixels, title.tl(), {title.x + title.width, bottom}, colour, -1);
    put(pixels, title_of(face, labels), {title.x + pad, bottom - pad}, scale, readable_on(colour));
  }
}

}  // namespace

void draw(cv::Mat& pixels, const LabelledFrame& labelled, const std::vector<std::string>& labels,
          const Status& status) {
  std::string text = status.fps ? fixed(*status.fps, 0) + " fps  " : "";
  text += fixed(labelled.age_ms(), 0) + " ms  " + status.engine;
  if (labelled.left_out > 0) text += "  +" + std::to_string(labelled.left_out) + " faces";
  const double scale = text_scale(pixels.size());
  const cv::Size size = text_size(text, scale);
  const cv::Rect place(0, 0, size.width + size.height, 2 * size.height);
  shade(pixels, place);
  put(pixels, text, {size.height / 2, static_cast<int>(1.5 * size.height)}, scale, kLight);
  draw_faces(pixels, labelled.faces, labels, place);
}

}  // namespace edgefer::app
