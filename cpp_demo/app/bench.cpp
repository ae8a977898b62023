#include "bench.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <thread>

#include <sys/utsname.h>
#include <nlohmann/json.hpp>
#include <opencv2/core/version.hpp>

#include "clock.hpp"

namespace edgefer::app {
namespace {

using nlohmann::json;

constexpr double kWarmUpSeconds = 2.0;
constexpr std::size_t kWindow = 5;
constexpr double kSettled = 0.05;
constexpr double kTailSamples = 10;  // a percentile is shown only with so many samples beyond it: n·(1−p) ≥ 10

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

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
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
    const double now = median(window);
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
  return found.dump(2);
}

}  // namespace edgefer::app
