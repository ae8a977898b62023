#include "app.hpp"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <utility>

#include "notices.hpp"

namespace edgefer::app {
namespace {

constexpr double kVideoFps = 30.0;  // assumed of a video that does not state its own

bool any_wants_picture(const std::vector<Sink*>& sinks) {
  return std::any_of(sinks.begin(), sinks.end(), [](const Sink* sink) { return sink->wants_picture(); });
}

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

double area(const TrackedFace& face) { return face.detection.box.width * face.detection.box.height; }

}  // namespace

App::App(Source& source, Finder& find, Labeller& label, std::vector<Sink*> sinks, const Options& options,
         double join_seconds)
    : source_(source),
      find_(find),
      label_(label),
      sinks_(std::move(sinks)),
      options_(options),
      join_seconds_(join_seconds),
      newest_((source.live || options.realtime) && !options.every_frame),
      wants_picture_(any_wants_picture(sinks_)),
      frames_(newest_),
      found_(newest_),
      labelled_(newest_) {}

App::~App() = default;

Summary App::run() {
  begin(&App::capture, [this] { frames_.close(); });
  begin(&App::detect, [this] { found_.close(); });
  begin(&App::infer, [this] { labelled_.close(); });
  try {
    show();  // in the thread of the caller: windows want that
  } catch (...) {
    fail(std::current_exception());
  }
  finish();
  if (fault_) std::rethrow_exception(fault_);
  return summary();
}

void App::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stopped_.notify_all();
  frames_.close();
  found_.close();
  labelled_.close();
}

/// First stage: read, turn, stamp; at the video's speed where that is asked for.
void App::capture() {
  const double fps = source_.fps.value_or(kVideoFps), start = monotonic();
  std::int64_t number = 0;
  while (true) {
    const bool paced = options_.realtime && !source_.live;
    if (pause_until(paced ? start + static_cast<double>(number) / fps : 0.0)) return;
    const double before = monotonic();
    auto pixels = source_.read();
    const double now = monotonic();
    if (!pixels || (options_.seconds && now - start > *options_.seconds)) return;
    Frame frame;
    frame.number = number;
    frame.time = source_.live ? now : static_cast<double>(number) / fps;
    frame.captured = now;
    frame.clock = wall();
    frame.read_ms = 1000.0 * (now - before);
    frame.pixels = turned(std::move(*pixels), options_);
    frame.turn_ms = 1000.0 * (monotonic() - now);
    frames_.put(std::move(frame));
    read_ = ++number;
  }
}

void App::detect() {
  while (auto frame = frames_.get()) found_.put(find_(std::move(*frame)));
}

void App::infer() {
  while (auto found = found_.get()) labelled_.put(label_(std::move(*found)));
}

/// Last stage.
void App::show() {
  while (auto labelled = labelled_.get()) {
    meter_.count(*labelled);
    if (labelled->left_out > 0 && !std::exchange(told_, true)) {
      announce("note: " + std::to_string(labelled->left_out + labelled->faces.size()) + " faces at once: the largest " +
               std::to_string(labelled->faces.size()) + " are labelled (--max-faces)");
    }
    if (!put_out(*labelled)) return;
  }
}

/// Draw the frame and give it to the sinks; false if one asks for the end.
bool App::put_out(LabelledFrame& labelled) {
  const double start = monotonic();
  if (wants_picture_) draw(labelled.frame.pixels, labelled, label_.labels(), {meter_.fps(), label_.engine()});
  const double drawn = monotonic();
  bool wanted = true;
  for (Sink* sink : sinks_) wanted = sink->write(labelled) && wanted;
  meter_.count_output(labelled, 1000.0 * (drawn - start), 1000.0 * (monotonic() - drawn));
  return wanted;
}

/// Run a stage; whatever ends it closes what it feeds, so the end travels on, and the first fault is kept.
void App::begin(void (App::*work)(), std::function<void()> close_next) {
  auto ended = std::make_shared<std::atomic<bool>>(false);
  std::thread thread([this, work, close_next = std::move(close_next), ended] {
    try {
      (this->*work)();
    } catch (...) {
      fail(std::current_exception());
    }
    close_next();
    *ended = true;
  });
  stages_.push_back({std::move(thread), std::move(ended)});
}

void App::fail(std::exception_ptr fault) {
  {
    const std::lock_guard lock(mutex_);
    if (!fault_) fault_ = std::move(fault);
  }
  stop();
}

void App::finish() {
  stop();
  source_.close();
  const double until = monotonic() + join_seconds_;
  for (auto& stage : stages_) {
    while (!*stage.ended && monotonic() < until) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    if (*stage.ended) {
      stage.thread.join();
    } else {
      stage.thread.detach();
      left_behind_ = true;
    }
  }
  for (Sink* sink : sinks_) {
    try {
      sink->close();
    } catch (const std::exception& fault) {  // the others are closed too
      if (fault_) announce(std::string("error: ") + fault.what());
      if (!fault_) fault_ = std::current_exception();
    }
  }
}

Summary App::summary() const {
  Summary found = meter_.summary(newest_);
  found.read = read_;
  found.dropped_detect = frames_.dropped();
  found.dropped_infer = found_.dropped();
  found.dropped_draw = labelled_.dropped();
  found.reconnects = source_.reconnects;
  return found;
}

/// Wait until the moment; true if the app is to end.
bool App::pause_until(double moment) {
  std::unique_lock lock(mutex_);
  const double seconds = std::max(0.0, moment - monotonic());
  return stopped_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return stop_; });
}

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

TrackedFrame Finder::operator()(Frame frame) {
  const double start = monotonic();
  if (!stills_ && size_.area() > 0 && frame.pixels.size() != size_) {
    announce("note: pictures were " + written(size_) + " and are " + written(frame.pixels.size()) + " now");
    tracker_.reset();  // their places are of another scale
    searched_at_.reset();
  }
  size_ = frame.pixels.size();
  if (stills_) tracker_.reset();
  TrackedFrame found;
  found.searched = stills_ || !searched_at_ || frame.number - *searched_at_ >= every_ || tracker_.wants_search();
  if (found.searched) {
    searched_at_ = frame.number;
    const double before = monotonic();
    const auto detections = detector_.detect(frame);
    found.detect_ms = 1000.0 * (monotonic() - before);
    found.tracks = tracker_.update(detections, frame.time);
  } else {
    found.tracks = tracker_.predict(frame.time);
  }
  found.frame = std::move(frame);
  found.track_ms = 1000.0 * (monotonic() - start) - found.detect_ms;
  return found;
}

Labeller::Labeller(Classifier& classifier, const Options& options)
    : classifier_(classifier),
      max_faces_(static_cast<std::size_t>(options.max_faces)),
      level_(options.level),
      engine_(engine_name(classifier.manifest())),
      smoothers_(options.smoothing) {}

LabelledFrame Labeller::operator()(TrackedFrame found) {
  const double start = monotonic();
  auto& tracks = found.tracks;
  std::stable_sort(tracks.begin(), tracks.end(), [](const auto& a, const auto& b) { return area(a) > area(b); });
  const std::size_t count = std::min(tracks.size(), max_faces_);
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
  auto smoothed = smoothers_.update(numbers, rows, contract.labels.size(), found.frame.time);
  LabelledFrame labelled;
  for (std::size_t i = 0; i < count; ++i) labelled.faces.push_back({std::move(tracks[i]), std::move(smoothed[i])});
  labelled.left_out = tracks.size() - count;
  labelled.searched = found.searched;
  labelled.detect_ms = found.detect_ms;
  labelled.track_ms = found.track_ms;
  labelled.frame = std::move(found.frame);
  labelled.labelled_at = monotonic();
  labelled.cut_ms = 1000.0 * (are_cut - start);
  labelled.infer_ms = 1000.0 * (inferred - are_cut);
  labelled.smooth_ms = 1000.0 * (labelled.labelled_at - inferred);
  return labelled;
}

}  // namespace edgefer::app
