// edgefer_camera: label faces of a camera, stream, video or folder.
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include <opencv2/core.hpp>
#include <opencv2/core/utils/logger.hpp>

#include "app.hpp"
#include "arguments.hpp"
#include "edgefer/classifier.hpp"
#include "measure.hpp"
#include "notices.hpp"

namespace edgefer::app {
namespace {

constexpr int kFault = 2;
constexpr double kBenchSeconds = 10.0;
constexpr double kFpsUnstated = 25.0;    // of a video that is written, where the source states none
constexpr auto kMaxPixels = "50000000";  // of a picture; phones have 12 to 48 million
constexpr int kInterrupted = 130;        // 128 + SIGINT, as shells report it
constexpr long kPollNanoseconds = 100'000'000;

sigset_t both() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

/// From its construction on, both signals are taken by a thread of ours. The first one ends what `on_signal` was told
/// of, or the process (exit code 130) where nothing has to be finished yet; further ones are swallowed, so that they
/// cannot keep the app from finishing its files.
class Interrupts {
 public:
  /// Must come before any other thread is started: threads inherit which signals they do not take.
  Interrupts() {
    const sigset_t set = both();
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    thread_ = std::thread([this] { watch(); });
  }
  ~Interrupts() {
    over_ = true;
    thread_.join();
  }
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  /// Call `end` at the signal, from another thread; nothing to leave the process at once.
  void on_signal(std::function<void()> end) {
    const std::lock_guard lock(mutex_);
    end_ = std::move(end);
  }

  bool came() const { return came_; }

 private:
  void watch() {
    const sigset_t set = both();
    while (!over_) {
      const timespec poll{0, kPollNanoseconds};
      if (sigtimedwait(&set, nullptr, &poll) < 0 || came_) continue;
      const std::lock_guard lock(mutex_);
      if (!end_) {
        announce("interrupted");
        std::_Exit(kInterrupted);
      }
      came_ = true;
      announce("stopping");
      end_();
    }
  }

  std::mutex mutex_;
  std::function<void()> end_;
  std::atomic<bool> came_{false};
  std::atomic<bool> over_{false};
  std::thread thread_;
};

/// What OpenCV and its decoders read from the environment; what a file lacks is said by our errors.
void prepare_opencv(int threads) {
  setenv("OPENCV_FFMPEG_LOGLEVEL", "-8", 0);
  setenv("OPENCV_IO_MAX_IMAGE_PIXELS", kMaxPixels, 0);
  cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);
  cv::setNumThreads(threads);
}

std::string version_line() {
  std::string runs_in;
  for (const auto& runtime : runtimes()) runs_in += (runs_in.empty() ? "" : ", ") + runtime;
  return std::string("edgefer_camera ") + EDGEFER_VERSION + ", runs engines in " +
         (runs_in.empty() ? "nothing" : runs_in) + "; OpenCV " + cv::getVersionString();
}

double bench_seconds(const Arguments& asked) { return asked.options.seconds.value_or(kBenchSeconds); }

bool wants_window(const Arguments& asked) {
  if (asked.window) return *asked.window;
  if (asked.bench) return false;
  return has_display() || (!asked.video && !asked.events && !asked.serve);
}

std::vector<std::unique_ptr<Sink>> open_sinks(const Arguments& asked, const Source& source,
                                              const Classifier& classifier, std::function<bool()> is_over) {
  std::vector<std::unique_ptr<Sink>> sinks;
  const bool video = !source.live && !source.stills;
  if (wants_window(asked)) {
    sinks.push_back(open_window("edgefer · " + source.name, source.stills, std::move(is_over)));
  }
  if (asked.serve) sinks.push_back(open_stream(asked.host, *asked.serve));
  if (asked.video) {
    const bool live = source.live || asked.options.realtime;
    sinks.push_back(open_video(*asked.video, source.fps.value_or(kFpsUnstated), live));
  }
  // Last: opening it empties a file that is there.
  if (asked.events) sinks.push_back(open_events(*asked.events, classifier.contract().labels, video));
  return sinks;
}

/// All that the app's threads use: left alone, never destroyed, if one of them hangs in a driver.
struct Parts {
  explicit Parts(const Arguments& asked) : asked(asked), classifier(Classifier::load(asked.engine, asked.threads)) {}

  void open_app(std::function<bool()> is_over) {
    source = open_source(asked.source.value_or("0"), asked.source_options);
    options = asked.options;
    // A bench's seconds are the engine's; a file goes to its end, and only a camera has to be stopped.
    if (asked.bench) options.seconds = source->live ? std::optional(bench_seconds(asked)) : std::nullopt;
    detector = asked.boxes ? open_given_boxes(*asked.boxes) : open_detector(asked.detector, asked.detector_options);
    find = std::make_unique<Finder>(*detector, options, source->stills);
    label = std::make_unique<Labeller>(classifier, options);
    sinks = open_sinks(asked, *source, classifier, std::move(is_over));
    std::vector<Sink*> views;
    for (const auto& sink : sinks) views.push_back(sink.get());
    app = std::make_unique<App>(*source, *find, *label, std::move(views), options);
  }

  const Arguments asked;
  Options options;
  Classifier classifier;
  std::unique_ptr<Source> source;
  std::unique_ptr<Detector> detector;
  std::unique_ptr<Finder> find;
  std::unique_ptr<Labeller> label;
  std::vector<std::unique_ptr<Sink>> sinks;
  std::unique_ptr<App> app;
};

int tell(const std::exception& fault) {
  announce(std::string("error: ") + fault.what());  // an Error's hint stands in it, on a line of its own
  return kFault;
}

/// The exit code; `run` is filled in where all went well.
int run_app(Parts& parts, Interrupts& interrupts, std::optional<Run>& run) {
  interrupts.on_signal([&parts] { parts.app->stop(); });
  int code = 0;
  try {
    const Summary summary = parts.app->run();
    announce(summary.text());
    run.emplace(Run{parts.source->name, summary, parts.app->meter()});
  } catch (const std::exception& fault) {  // caught here, because what hangs may not be destroyed on the way out
    code = tell(fault);
  }
  interrupts.on_signal([] {});  // the work is done: whoever is impatient cannot make it a failure
  return code;
}

int run(const Arguments& asked, Interrupts& interrupts) {
  auto parts = std::make_unique<Parts>(asked);
  const bool with_app = !asked.bench || asked.source;
  if (with_app) parts->open_app([&interrupts] { return interrupts.came(); });
  std::optional<Run> ran;
  const int code = with_app ? run_app(*parts, interrupts, ran) : 0;
  if (code == 0 && asked.bench && !interrupts.came()) {
    interrupts.on_signal(nullptr);
    const auto calls = time_engine(parts->classifier, bench_seconds(asked));
    const auto bytes = std::filesystem::file_size(asked.engine);
    std::cout << bench_json(parts->classifier, bytes, asked.threads, calls, ran) << std::endl;
  }
  if (with_app && parts->app->left_a_thread_behind()) {
    std::fflush(nullptr);
    std::_Exit(code);  // a thread is still inside a driver: nothing that it uses may go
  }
  return code;
}

int main_of(const std::vector<std::string>& arguments) {
  try {
    const Arguments asked = parse_arguments(arguments);
    if (asked.help) std::cout << *asked.help;
    if (asked.version) std::cout << version_line() << "\n";
    if (asked.help || asked.version) return 0;
    std::signal(SIGPIPE, SIG_IGN);  // who reads our events may go; that is an answer of write(), not a death
    Interrupts interrupts;
    prepare_opencv(asked.threads);
    return run(asked, interrupts);
  } catch (const std::exception& fault) {
    return tell(fault);
  }
}

}  // namespace
}  // namespace edgefer::app

int main(int count, char** values) {
  if (count == 2 && std::string(values[1]) == "--try-window") return edgefer::app::try_window();
  return edgefer::app::main_of(std::vector<std::string>(values + 1, values + count));
}
