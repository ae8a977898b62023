#include "sink.hpp"

#include <algorithm>
#include <array>
#include <cmath>

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

/// Bars right of `box`, or left of it where there is no room.
void draw_bars(cv::Mat& pixels, const LabelledFace& face, const std::vector<std::string>& labels, const cv::Rect& box,
               double scale) {
  const double small = 0.75 * scale;
  int names = 0;
  for (const auto& label : labels) names = std::max(names, text_size(label, small).width);
  const int line = static_cast<int>(2.1 * text_size("Ag", small).height), count = static_cast<int>(labels.size());
  const int width = names + 5 * line;
  int left = box.x + box.width + line / 4;
  if (left + width > pixels.cols) left = std::max(0, box.x - width - line / 4);
  const int top = std::max(0, std::min(box.y, pixels.rows - line * count));
  shade(pixels, {left, top, width, line * count});
  const int start = left + names + line / 2, room = left + width - line / 4 - start;
  for (int row = 0; row < count; ++row) {
    const auto index = static_cast<std::size_t>(row);
    const int base = top + row * line;
    put(pixels, labels[index], {left + line / 4, base + static_cast<int>(0.72 * line)}, small, kLight);
    const int end = start + rounded(static_cast<double>(face.smoothed.probabilities[index]) * room);
    cv::rectangle(pixels, {start, base + line / 5}, {end, base + 4 * line / 5}, kPalette[index % kPalette.size()], -1);
  }
}

/// Box and label of one face, with bars if it is large enough.
void draw_face(cv::Mat& pixels, const LabelledFace& face, const std::vector<std::string>& labels) {
  const auto& found = face.tracked.detection.box;
  const cv::Rect box(rounded(found.x), rounded(found.y), rounded(found.width), rounded(found.height));
  const cv::Scalar& colour = face.sure() ? kPalette[face.label() % kPalette.size()] : kUnsure;
  const double scale = text_scale(pixels.size());
  cv::rectangle(pixels, box.tl(), box.br(), colour, std::max(1, rounded(3 * scale)));
  std::string title = "unsure";
  if (face.sure()) {
    const auto share = static_cast<double>(face.smoothed.probabilities[face.label()]);
    title = labels[face.label()] + " " + fixed(100.0 * share, 0) + "%";
  }
  const cv::Size text = text_size(title, scale);
  const int pad = text.height / 2;
  const int left = std::max(0, std::min(box.x, pixels.cols - text.width - 2 * pad));
  int top = box.y - text.height - 2 * pad;
  if (top < 0) top = std::min(box.y + box.height, pixels.rows - text.height - 2 * pad);
  const int bottom = top + text.height + 2 * pad;
  cv::rectangle(pixels, {left, top}, {left + text.width + 2 * pad, bottom}, colour, -1);
  put(pixels, title, {left + pad, bottom - pad}, scale, readable_on(colour));
  if (box.height >= kBarsFrom * pixels.rows) draw_bars(pixels, face, labels, box, scale);
}

}  // namespace

void draw(cv::Mat& pixels, const LabelledFrame& labelled, const std::vector<std::string>& labels,
          const Status& status) {
  // The largest last, on top.
  for (auto face = labelled.faces.rbegin(); face != labelled.faces.rend(); ++face) draw_face(pixels, *face, labels);
  std::string text = status.fps ? fixed(*status.fps, 0) + " fps  " : "";
  text += fixed(labelled.age_ms(), 0) + " ms  " + status.engine;
  if (labelled.left_out > 0) text += "  +" + std::to_string(labelled.left_out) + " faces";
  const double scale = text_scale(pixels.size());
  const cv::Size size = text_size(text, scale);
  shade(pixels, {0, 0, size.width + size.height, 2 * size.height});
  put(pixels, text, {size.height / 2, static_cast<int>(1.5 * size.height)}, scale, kLight);
}

}  // namespace edgefer::app
