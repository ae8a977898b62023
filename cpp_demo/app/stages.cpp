#include "stages.hpp"

#include <algorithm>
#include <cctype>
#include <utility>

#include "clock.hpp"
#include "notices.hpp"

namespace edgefer::app {
namespace {

std::string engine_name(const Manifest& manifest) {
  std::string precision = manifest.precision;
  std::transform(precision.begin(), precision.end(), precision.begin(),
                 [](unsigned char c) { return std::toupper(c); });
  return manifest.contract.architecture + " " + precision;
}

std::string written(cv::Size size) { return std::to_string(size.width) + "×" + std::to_string(size.height); }

Image image_of(const cv::Mat& pixels) {
  Image image;
  image.data = pixels.data;
  image.width = pixels.cols;
  image.height = pixels.rows;
  image.stride = static_cast<std::ptrdiff_t>(pixels.step[0]);
  image.format = Format::bgr;
  return image;
}

double area(const Tracked& face) { return face.detection.box.width * face.detection.box.height; }

}  // namespace

cv::Mat turned(cv::Mat pixels, const Options& options) {
  if (options.rotate != 0) {
    const auto how = options.rotate == 90    ? cv::ROTATE_90_CLOCKWISE
                     : options.rotate == 180 ? cv::ROTATE_180
                                             : cv::ROTATE_90_COUNTERCLOCKWISE;
    cv::Mat result;
    cv::rotate(pixels, result, how);
    pixels = result;
  }
  if (options.mirror) {
    cv::Mat result;
    cv::flip(pixels, result, 1);
    pixels = result;
  }
  return pixels;
}

Finder::Finder(Detector& detector, const Options& options, bool stills)
    : detector_(detector), every_(options.every), stills_(stills), tracker_(stills ? 1 : detector.confirmations()) {}

Found Finder::operator()(Frame frame) {
  const double start = monotonic();
  if (!stills_ && size_.area() > 0 && frame.pixels.size() != size_) {
    announce("note: pictures were " + written(size_) + " and are " + written(frame.pixels.size()) + " now");
    tracker_.reset();  // their places are of another scale
    looked_.reset();
  }
  size_ = frame.pixels.size();
  if (stills_) tracker_.reset();
  Found found;
  found.searched = stills_ || !looked_ || frame.number - *looked_ >= every_ || tracker_.wants_look();
  if (found.searched) {
    looked_ = frame.number;
    const double before = monotonic();
    const auto detections = detector_.detect(frame);
    found.detect_ms = 1000.0 * (monotonic() - before);
    found.tracks = tracker_.look(detections, frame.time);
  } else {
    found.tracks = tracker_.predict(frame.time);
  }
  found.frame = std::move(frame);
  found.track_ms = 1000.0 * (monotonic() - start) - found.detect_ms;
  return found;
}

Labeller::Labeller(Classifier& classifier, const Options& options)
    : classifier_(classifier),
      most_faces_(static_cast<std::size_t>(options.most_faces)),
      level_(options.level),
      engine_(engine_name(classifier.manifest())),
      smoothers_(options.smoothing) {}

Seen Labeller::operator()(Found found) {
  const double start = monotonic();
  auto& tracks = found.tracks;
  std::stable_sort(tracks.begin(), tracks.end(), [](const auto& a, const auto& b) { return area(a) > area(b); });
  const std::size_t count = std::min(tracks.size(), most_faces_);
  const Contract& contract = classifier_.contract();
  crops_.resize(count * contract.face_bytes());
  const Image image = image_of(found.frame.pixels);
  std::vector<int> numbers;
  for (std::size_t i = 0; i < count; ++i) {
    cut(image, contract, tracks[i].detection.crop, crops_.data() + i * contract.face_bytes(), level_);
    numbers.push_back(tracks[i].number);
  }
  const double are_cut = monotonic();
  const float* rows = count > 0 ? classifier_.probabilities(crops_.data(), count).data() : nullptr;
  const double inferred = monotonic();
  auto calm = smoothers_.update(numbers, rows, contract.labels.size(), found.frame.time);
  Seen seen;
  for (std::size_t i = 0; i < count; ++i) seen.faces.push_back({std::move(tracks[i]), std::move(calm[i])});
  seen.left_out = tracks.size() - count;
  seen.searched = found.searched;
  seen.detect_ms = found.detect_ms;
  seen.track_ms = found.track_ms;
  seen.frame = std::move(found.frame);
  seen.labelled = monotonic();
  seen.cut_ms = 1000.0 * (are_cut - start);
  seen.infer_ms = 1000.0 * (inferred - are_cut);
  seen.smooth_ms = 1000.0 * (seen.labelled - inferred);
  return seen;
}

}  // namespace edgefer::app
