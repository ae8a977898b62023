// edgefer_camera: label faces of a camera, stream, film or folder.
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <utility>

#include <opencv2/core.hpp>
#include <opencv2/core/utils/logger.hpp>

#include "app.hpp"
#include "arguments.hpp"
#include "bench.hpp"
#include "edgefer/classifier.hpp"
#include "interrupts.hpp"
#include "notices.hpp"

namespace edgefer::app {
namespace {

constexpr int kFault = 2;
constexpr double kBenchSeconds = 10.0;
constexpr double kFpsUnstated = 25.0;     // of a film that is written, where the source states none
constexpr auto kMostPixels = "50000000";  // of a picture; phones have 12 to 48 million

/// What OpenCV and its decoders read from the environment; what a file lacks is said by our errors.
void prepare_opencv(int threads) {
  setenv("OPENCV_FFMPEG_LOGLEVEL", "-8", 0);
  setenv("OPENCV_IO_MAX_IMAGE_PIXELS", kMostPixels, 0);
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
  const bool film = !source.live && !source.stills;
  if (wants_window(asked)) {
    sinks.push_back(open_window("edgefer · " + source.name, source.stills, std::move(is_over)));
  }
  if (asked.serve) sinks.push_back(open_stream(asked.host, *asked.serve));
  if (asked.video) {
    const bool live = source.live || asked.options.realtime;
    sinks.push_back(open_film(*asked.video, source.fps.value_or(kFpsUnstated), live));
  }
  // Last: opening it empties a file that is there.
  if (asked.events) sinks.push_back(open_events(*asked.events, classifier.contract().labels, film));
  return sinks;
}

/// All that the app's threads use: left alone, never destroyed, if one of them hangs in a driver.
struct Parts {
  explicit Parts(const Arguments& asked) : asked(asked), classifier(Classifier::load(asked.engine, asked.threads)) {}

  void open_app(std::function<bool()> is_over) {
    source = open_source(asked.source.value_or("0"), asked.source_wishes);
    options = asked.options;
    // A bench's seconds are the engine's; a file goes to its end, and only a camera has to be stopped.
    if (asked.bench) options.seconds = source->live ? std::optional(bench_seconds(asked)) : std::nullopt;
    detector = asked.boxes ? open_given_boxes(*asked.boxes) : open_detector(asked.detector, asked.detector_wishes);
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
    if (asked.help) std::cout << help_page();
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
