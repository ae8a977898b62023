#include "summary.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "clock.hpp"
#include "notices.hpp"

namespace edgefer::app {
namespace {

constexpr std::size_t kRecent = 60;
constexpr std::size_t kKept = 4096;

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
  const double place = percent / 100.0 * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(place);
  const double part = place - static_cast<double>(low);
  return sorted[low] + part * (sorted[std::min(low + 1, sorted.size() - 1)] - sorted[low]);
}

std::optional<double> Durations::mean() const {
  if (values_.empty()) return std::nullopt;
  return std::accumulate(values_.begin(), values_.end(), 0.0) / static_cast<double>(values_.size());
}

void Meter::count(const Seen& seen) {
  last_ = monotonic();
  if (shown_ == 0) first_ = last_;
  ++shown_;
  moments_.push_back(last_);
  if (moments_.size() > kRecent) moments_.pop_front();
  ages_.add(seen.age_ms());
  part(Part::read).add(seen.frame.read_ms);
  part(Part::turn).add(seen.frame.turn_ms);
  part(Part::detect).add(seen.detect_ms);
  part(Part::track).add(seen.track_ms);
  part(Part::cut).add(seen.cut_ms);
  part(Part::infer).add(seen.infer_ms);
  part(Part::smooth).add(seen.smooth_ms);
  for (const auto& face : seen.faces) tracks_ = std::max(tracks_, face.tracked.number);
}

void Meter::count_output(const Seen& seen, double draw_ms, double write_ms) {
  const double overhead = seen.frame.turn_ms + seen.track_ms + seen.cut_ms + seen.smooth_ms + draw_ms + write_ms;
  const double whole = 1000.0 * (monotonic() - seen.frame.captured);
  part(Part::draw).add(draw_ms);
  part(Part::write).add(write_ms);
  part(Part::wait).add(std::max(0.0, whole - overhead - seen.detect_ms - seen.infer_ms));
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

}  // namespace edgefer::app
