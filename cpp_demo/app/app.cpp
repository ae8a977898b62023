#include "app.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "clock.hpp"
#include "notices.hpp"

namespace edgefer::app {
namespace {

constexpr double kFilmFps = 30.0;  // assumed of a film that does not state its own

bool any_wants_picture(const std::vector<Sink*>& sinks) {
  return std::any_of(sinks.begin(), sinks.end(), [](const Sink* sink) { return sink->wants_picture(); });
}

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
      seen_(newest_) {}

App::~App() = default;

Summary App::run() {
  begin(&App::capture, [this] { frames_.close(); });
  begin(&App::detect, [this] { found_.close(); });
  begin(&App::infer, [this] { seen_.close(); });
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
  seen_.close();
}

/// First stage: read, turn, stamp; at the film's speed where that is asked for.
void App::capture() {
  const double fps = source_.fps.value_or(kFilmFps), start = monotonic();
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
  while (auto found = found_.get()) seen_.put(label_(std::move(*found)));
}

/// Last stage.
void App::show() {
  while (auto seen = seen_.get()) {
    meter_.count(*seen);
    if (seen->left_out > 0 && !std::exchange(told_, true)) {
      announce("note: " + std::to_string(seen->left_out + seen->faces.size()) + " faces at once: the largest " +
               std::to_string(seen->faces.size()) + " are labelled (--most-faces)");
    }
    if (!put_out(*seen)) return;
  }
}

/// Draw the frame and give it to the sinks; false if one asks for the end.
bool App::put_out(Seen& seen) {
  const double start = monotonic();
  if (wants_picture_) draw(seen.frame.pixels, seen, label_.labels(), {meter_.fps(), label_.engine()});
  const double drawn = monotonic();
  bool wanted = true;
  for (Sink* sink : sinks_) wanted = sink->write(seen) && wanted;
  meter_.count_output(seen, 1000.0 * (drawn - start), 1000.0 * (monotonic() - drawn));
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
  found.dropped_draw = seen_.dropped();
  found.reconnects = source_.reconnects;
  return found;
}

/// Wait until the moment; true if the app is to end.
bool App::pause_until(double moment) {
  std::unique_lock lock(mutex_);
  const double seconds = std::max(0.0, moment - monotonic());
  return stopped_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return stop_; });
}

}  // namespace edgefer::app
