#include "measure.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <numeric>
#include <thread>

#include <sys/utsname.h>
#include <nlohmann/json.hpp>
#include <opencv2/core/version.hpp>

#include "notices.hpp"

namespace edgefer::app {
namespace {

using nlohmann::json;

constexpr std::size_t kRecent = 60;
constexpr std::size_t kKept = 4096;
constexpr double kWarmUpSeconds = 2.0;
constexpr std::size_t kWindow = 5;
constexpr double kSettled = 0.05;
constexpr double kTailSamples = 10;  // a percentile is shown only with this number of samples beyond it: n·(1−p) ≥ 10

/// 1234567 as 1,234,567.
std::string grouped(std::int64_t count) {
  std::string text = std::to_string(count);
  for (auto at = static_cast<std::ptrdiff_t>(text.size()) - 3; at > 0; at -= 3) {
    text.insert(static_cast<std::size_t>(at), ",");
  }
  return text;
}

std::string plural(int count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

/// Linearly interpolated, as numpy does it.
double percentile(const std::vector<double>& sorted, double percent) {
  const double place = percent / 100.0 * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(place);
  const double next = sorted[std::min(low + 1, sorted.size() - 1)];
  return sorted[low] + (place - static_cast<double>(low)) * (next - sorted[low]);
}

json latency(std::vector<double> calls) {
  std::sort(calls.begin(), calls.end());
  json found;
  for (const int percent : {50, 90, 95, 99}) {
    const bool carried = static_cast<double>(calls.size()) * (100 - percent) >= 100 * kTailSamples;
    found["p" + std::to_string(percent)] = carried ? json(percentile(calls, percent)) : json();
  }
  found["n"] = calls.size();
  return found;
}

json or_null(const std::optional<double>& value) { return value ? json(*value) : json(); }

json spread(const Durations& durations) {
  return {{"mean", or_null(durations.mean())},
          {"p50", or_null(durations.percentile(50))},
          {"p95", or_null(durations.percentile(95))}};
}

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

json environment(const std::string& runtime, const std::string& version) {
  utsname system{};
  uname(&system);
  return {{"cpu", cpu_name()},
          {"cores", std::thread::hardware_concurrency()},
          {"os", std::string(system.sysname) + " " + system.release + " " + system.machine},
          {"language", "C++"},
          {"packages", {{runtime, version}, {"opencv", CV_VERSION}}},
          {"compiler", __VERSION__},
          {"warnings", json::array()}};
}

/// The largest resident set of this program. getrusage() would count what its parent held when it was started.
json peak_rss_bytes() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::stoll(line.substr(6)) * 1024;
  }
  return {};
}

json camera(const Run& run) {
  static constexpr const char* kNames[] = {"read",  "turn",   "detect", "track", "cut",
                                           "infer", "smooth", "draw",   "write", "wait"};
  static_assert(std::size(kNames) == static_cast<std::size_t>(Part::count));
  json parts;
  for (int i = 0; i < static_cast<int>(Part::count); ++i) parts[kNames[i]] = spread(run.meter.of(static_cast<Part>(i)));
  return {{"source", run.source},
          {"read", run.summary.read},
          {"shown", run.summary.shown},
          {"dropped",
           {{"detect", run.summary.dropped_detect},
            {"infer", run.summary.dropped_infer},
            {"draw", run.summary.dropped_draw}}},
          {"seconds", run.summary.seconds},
          {"fps", or_null(run.summary.fps)},
          {"age_p50_ms", or_null(run.meter.ages().percentile(50))},
          {"age_p95_ms", or_null(run.meter.ages().percentile(95))},
          {"tracks", run.summary.tracks},
          {"reconnects", run.summary.reconnects},
          {"parts_ms", parts},
          {"overhead_ms", spread(run.meter.overhead())},
          {"peak_rss_bytes", peak_rss_bytes()}};
}

}  // namespace

std::string Summary::text() const {
  std::string line = grouped(shown) + " frames shown in " + fixed(seconds, 1) + " s";
  if (fps) line += ", " + fixed(*fps, 1) + " fps";
  if (age_p50_ms)
    line += " · frame to label " + fixed(*age_p50_ms, 1) + " ms (p50), " + fixed(*age_p95_ms, 1) + " ms (p95)";
  line += " · " + plural(tracks, "face");
  std::string waits;
  const std::pair<std::int64_t, const char*> lost[] = {
      {dropped_detect, "detect"}, {dropped_infer, "infer"}, {dropped_draw, "draw"}};
  for (const auto& [count, stage] : lost) {
    if (count > 0) waits += (waits.empty() ? "" : ", ") + grouped(count) + " before " + stage;
  }
  if (!waits.empty()) {
    line += " · " + grouped(dropped_detect + dropped_infer + dropped_draw) + " of " + grouped(read) +
            " frames dropped (" + waits + ")";
  }
  if (reconnects > 0) line += " · " + plural(reconnects, "reconnection");
  return line;
}

void Durations::add(double ms) {
  values_.push_back(ms);
  if (values_.size() > kKept) values_.pop_front();
}

std::optional<double> Durations::percentile(double percent) const {
  if (values_.empty()) return std::nullopt;
  std::vector<double> sorted(values_.begin(), values_.end());
  std::sort(sorted.begin(), sorted.end());
  return app::percentile(sorted, percent);
}

std::optional<double> Durations::mean() const {
  if (values_.empty()) return std::nullopt;
  return std::accumulate(values_.begin(), values_.end(), 0.0) / static_cast<double>(values_.size());
}

void Meter::count(const LabelledFrame& labelled) {
  last_ = monotonic();
  if (shown_ == 0) first_ = last_;
  ++shown_;
  moments_.push_back(last_);
  if (moments_.size() > kRecent) moments_.pop_front();
  ages_.add(labelled.age_ms());
  part(Part::read).add(labelled.frame.read_ms);
  part(Part::turn).add(labelled.frame.turn_ms);
  part(Part::detect).add(labelled.detect_ms);
  part(Part::track).add(labelled.track_ms);
  part(Part::cut).add(labelled.cut_ms);
  part(Part::infer).add(labelled.infer_ms);
  part(Part::smooth).add(labelled.smooth_ms);
  for (const auto& face : labelled.faces) tracks_ = std::max(tracks_, face.tracked.number);
}

void Meter::count_output(const LabelledFrame& labelled, double draw_ms, double write_ms) {
  const double overhead =
      labelled.frame.turn_ms + labelled.track_ms + labelled.cut_ms + labelled.smooth_ms + draw_ms + write_ms;
  const double whole = 1000.0 * (monotonic() - labelled.frame.captured);
  part(Part::draw).add(draw_ms);
  part(Part::write).add(write_ms);
  part(Part::wait).add(std::max(0.0, whole - overhead - labelled.detect_ms - labelled.infer_ms));
  overhead_.add(overhead);
}

std::optional<double> Meter::fps() const {
  if (moments_.size() < 2 || moments_.back() <= moments_.front()) return std::nullopt;
  return static_cast<double>(moments_.size() - 1) / (moments_.back() - moments_.front());
}

Summary Meter::summary(bool live) const {
  Summary found;
  found.shown = shown_;
  found.seconds = last_ - first_;
  if (shown_ > 1 && found.seconds > 0) found.fps = static_cast<double>(shown_ - 1) / found.seconds;
  if (live) {
    found.age_p50_ms = ages_.percentile(50);
    found.age_p95_ms = ages_.percentile(95);
  }
  found.tracks = tracks_;
  return found;
}

std::vector<double> time_engine(Classifier& classifier, double seconds) {
  const Golden& golden = classifier.manifest().golden;
  const std::size_t bytes = classifier.contract().face_bytes();
  std::size_t turn = 0;
  const auto call = [&] {
    const double start = monotonic();
    classifier.logits(golden.faces.data() + turn++ % golden.count * bytes, 1);
    return 1000.0 * (monotonic() - start);
  };
  // Until the medians of two successive windows agree, as in Python; at most for kWarmUpSeconds.
  const double capped = monotonic() + kWarmUpSeconds;
  double before = INFINITY;
  for (bool settled = false; !settled && monotonic() < capped;) {
    std::vector<double> window;
    while (window.size() < kWindow) window.push_back(call());
    std::sort(window.begin(), window.end());
    const double now = percentile(window, 50);
    settled = std::abs(now - before) <= kSettled * before;
    before = now;
  }
  std::vector<double> calls;
  for (const double until = monotonic() + seconds; calls.empty() || monotonic() < until;) calls.push_back(call());
  return calls;
}

std::string bench_json(Classifier& classifier, std::uint64_t size_bytes, int threads,
                       const std::vector<double>& calls_ms, const std::optional<Run>& run) {
  const Manifest& manifest = classifier.manifest();
  const json times = latency(calls_ms);
  json found{{"model", manifest.contract.architecture},
             {"runtime", manifest.runtime},
             {"precision", manifest.precision},
             {"batch", 1},
             {"threads", threads},
             {"latency_ms", times},
             {"images_per_s", times["p50"].is_null() ? json() : json(1000.0 / times["p50"].get<double>())},
             {"size_bytes", size_bytes},
             {"accuracy", nullptr},
             {"baseline", nullptr},
             {"paired", nullptr},
             {"environment", environment(manifest.runtime, classifier.session().version())}};
  if (run) found["camera"] = camera(*run);
  return found.dump(2, ' ', false, json::error_handler_t::replace);  // a path need not be UTF-8
}

}  // namespace edgefer::app
