#include "edgefer/tracking.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace edgefer {
namespace {

// The constants of edgefer/camera/track.py, where each is explained.
constexpr double match_overlap = 0.3;  // from which a detection may be a track's face
constexpr double reach = 0.6;          // where nothing overlaps: how many of its sizes a face may have jumped
constexpr int max_misses = 2;          // searches in a row that may miss a face before its track ends
constexpr double place_gain = 0.8, speed_gain = 0.5, size_gain = 0.5;
constexpr double horizon = 0.4;  // seconds for which a track goes on with its speed; then it stands still
constexpr double tiny = 1e-9;
constexpr std::size_t none = std::numeric_limits<std::size_t>::max();

double area(const Box& box) noexcept { return box.width * box.height; }

double nearness(const Box& one, const Box& other) {
  const double apart = std::hypot(one.x + one.width / 2 - (other.x + other.width / 2),
                                  one.y + one.height / 2 - (other.y + other.height / 2));
  const double size = std::sqrt(area(one)), second = std::sqrt(area(other));
  const double alike = std::min(size, second) / std::max(std::max(size, second), tiny);
  return alike > 0.5 ? 1.0 - apart / std::max(reach * (size + second) / 2, tiny) : -1.0;
}

/// Pair tracks with detections that are free, best first, while a pair is worth more than `min_worth`.
template <class Worth>
void take(const std::vector<Box>& tracks, const std::vector<Box>& found, const Worth& worth, double min_worth,
          std::vector<std::size_t>& partner) {
  std::vector<bool> taken(found.size(), false);
  for (const std::size_t column : partner) {
    if (column != none) taken[column] = true;
  }
  while (true) {
    std::size_t best_row = none, best_column = none;
    double best = min_worth;
    for (std::size_t row = 0; row < tracks.size(); ++row) {
      for (std::size_t column = 0; partner[row] == none && column < found.size(); ++column) {
        const double value = taken[column] ? -1.0 : worth(tracks[row], found[column]);
        if (value > best) best = value, best_row = row, best_column = column;
      }
    }
    if (best_row == none) return;
    partner[best_row] = best_column;
    taken[best_column] = true;
  }
}

/// For each track the index of its detection, or `none`: greedily by overlap, then by nearness.
std::vector<std::size_t> match(const std::vector<Box>& tracks, const std::vector<Box>& found) {
  std::vector<std::size_t> partner(tracks.size(), none);
  take(tracks, found, overlap, match_overlap, partner);
  take(tracks, found, nearness, 0.0, partner);
  return partner;
}

}  // namespace

Detection Detection::moved(double x, double y, double width, double height) const {
  const double growth = std::sqrt(width * height / area(box));
  const double dx = x - (box.x + box.width / 2) * growth, dy = y - (box.y + box.height / 2) * growth;
  Detection other = *this;
  other.box = {x - width / 2, y - height / 2, width, height};
  other.crop = {crop.x * growth + dx, crop.y * growth + dy, crop.side * growth, crop.angle};
  if (landmarks) {
    for (Point& point : *other.landmarks) {
      point.x = static_cast<float>(static_cast<double>(point.x) * growth + dx);
      point.y = static_cast<float>(static_cast<double>(point.y) * growth + dy);
    }
  }
  return other;
}

double overlap(const Box& one, const Box& other) noexcept {
  const double right = std::min(one.x + one.width, other.x + other.width);
  const double bottom = std::min(one.y + one.height, other.y + other.height);
  const double shared =
      std::max(right - std::max(one.x, other.x), 0.0) * std::max(bottom - std::max(one.y, other.y), 0.0);
  return shared / std::max(area(one) + area(other) - shared, tiny);
}

std::vector<std::size_t> suppress(const std::vector<Box>& boxes, const std::vector<double>& scores, double limit) {
  std::vector<std::size_t> order(boxes.size()), kept;
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  for (const std::size_t index : order) {
    const auto hides = [&](std::size_t better) { return overlap(boxes[better], boxes[index]) > limit; };
    if (std::none_of(kept.begin(), kept.end(), hides)) kept.push_back(index);
  }
  return kept;
}

Tracker::Track::Track(const Detection& found, double when)
    : detection(found),
      x(found.box.x + found.box.width / 2),
      y(found.box.y + found.box.height / 2),
      width(found.box.width),
      height(found.box.height),
      at(when) {}

Box Tracker::Track::place(double when) const noexcept {
  const double ahead = std::min(std::max(when - at, 0.0), horizon);
  return {x + speed_x * ahead - width / 2, y + speed_y * ahead - height / 2, width, height};
}

void Tracker::Track::see(const Detection& found, double when) noexcept {
  const double elapsed = std::max(when - at, 1e-3);
  const double moved_x = found.box.x + found.box.width / 2 - x, moved_y = found.box.y + found.box.height / 2 - y;
  const double ahead_x = speed_x * std::min(elapsed, horizon), ahead_y = speed_y * std::min(elapsed, horizon);
  if (hits == 1) {  // nothing known before: the first step is the speed
    speed_x = moved_x / elapsed;
    speed_y = moved_y / elapsed;
  } else {
    speed_x += speed_gain * (moved_x - ahead_x) / elapsed;
    speed_y += speed_gain * (moved_y - ahead_y) / elapsed;
  }
  const double gain = hits > 1 ? place_gain : 1.0;
  x = x + ahead_x + gain * (moved_x - ahead_x);
  y = y + ahead_y + gain * (moved_y - ahead_y);
  width += size_gain * (found.box.width - width);
  height += size_gain * (found.box.height - height);
  detection = found;
  at = when;
  ++hits;
  misses = 0;
}

bool Tracker::wants_search() const noexcept {
  return std::any_of(tracks_.begin(), tracks_.end(), [this](const Track& track) {
    return track.misses > 0 || track.hits < std::max(confirmations_, 2);
  });
}

std::vector<TrackedFace> Tracker::update(const std::vector<Detection>& detections, double at) {
  std::vector<Box> places, found;
  for (const Track& track : tracks_) places.push_back(track.place(at));
  for (const Detection& detection : detections) found.push_back(detection.box);
  const std::vector<std::size_t> partner = match(places, found);
  std::vector<bool> taken(found.size(), false);
  std::vector<Track> going_on;
  for (std::size_t row = 0; row < tracks_.size(); ++row) {
    Track& track = tracks_[row];
    if (partner[row] != none) {
      track.see(detections[partner[row]], at);
      taken[partner[row]] = true;
    } else if (++track.misses > max_misses || track.number == 0) {
      continue;  // a face that was never confirmed is no face; one that was may hide for a search or two
    }
    going_on.push_back(track);
  }
  tracks_ = std::move(going_on);
  for (std::size_t index = 0; index < detections.size(); ++index) {
    if (!taken[index]) tracks_.emplace_back(detections[index], at);
  }
  for (Track& track : tracks_) {
    if (track.number == 0 && track.hits >= confirmations_) track.number = ++count_;
  }
  return views(at, false);
}

std::vector<TrackedFace> Tracker::predict(double at) const { return views(at, true); }

std::vector<TrackedFace> Tracker::views(double at, bool predicted) const {
  std::vector<TrackedFace> shown;
  for (const Track& track : tracks_) {
    if (track.number == 0) continue;
    const Box place = track.place(at);
    const Detection moved =
        track.detection.moved(place.x + place.width / 2, place.y + place.height / 2, place.width, place.height);
    shown.push_back({track.number, moved, predicted || track.misses > 0});
  }
  return shown;
}

}  // namespace edgefer
