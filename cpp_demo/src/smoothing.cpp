#include "edgefer/smoothing.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
#include <utility>

#include "edgefer/classifier.hpp"
#include "edgefer/error.hpp"

namespace edgefer {
namespace {

constexpr std::size_t window = 10;  // of the majority vote, in pictures
constexpr double forget = 5.0;      // seconds; track numbers are never given twice

}  // namespace

Smoother::Smoother(const Smoothing& smoothing) : how_(smoothing) {
  const bool sensible = smoothing.seconds > 0 && smoothing.margin >= 0 && smoothing.margin < 1 &&
                        smoothing.min_confidence >= 0 && smoothing.min_confidence <= 1;
  if (!sensible) {
    throw Error("smoothing over " + std::to_string(smoothing.seconds) + " s with a margin of " +
                    std::to_string(smoothing.margin) + " and a confidence threshold of " +
                    std::to_string(smoothing.min_confidence) + " makes no sense",
                "seconds above 0, the two others from 0 to 1");
  }
}

SmoothedLabel Smoother::update(const float* probabilities, std::size_t classes, double at) {
  smooth(probabilities, classes, at);
  const std::size_t best = top(mean_.data(), classes);
  const double margin = how_.kind == Smoothing::Kind::none ? 0.0 : how_.margin;
  // Python adds a double to a float32 in float32: so does this, that both change labels in the same picture.
  const auto lead = static_cast<float>(margin);
  if (leader_ < 0 || mean_[best] > mean_[static_cast<std::size_t>(leader_)] + lead) leader_ = static_cast<int>(best);
  const double confidence = static_cast<double>(mean_[static_cast<std::size_t>(leader_)]);
  // What is sure stays so a little below the limit, so that a value at the limit does not blink.
  sure_ = confidence >= (sure_ ? how_.min_confidence - margin / 2 : how_.min_confidence);
  return {mean_, sure_ ? leader_ : -1};
}

void Smoother::smooth(const float* probabilities, std::size_t classes, double at) {
  if (how_.kind == Smoothing::Kind::majority) {
    votes_.push_back(top(probabilities, classes));
    if (votes_.size() > window) votes_.pop_front();
    mean_.resize(classes);
    for (std::size_t label = 0; label < classes; ++label) {
      const auto votes = static_cast<double>(std::count(votes_.begin(), votes_.end(), label));
      mean_[label] = static_cast<float>(votes / static_cast<double>(votes_.size()));
    }
    return;
  }
  if (mean_.empty() || how_.kind == Smoothing::Kind::none) {
    mean_.assign(probabilities, probabilities + classes);
  } else {
    const auto fresh = static_cast<float>(1.0 - std::exp(-std::max(at - at_, 0.0) / how_.seconds));
    for (std::size_t label = 0; label < classes; ++label) {
      mean_[label] = mean_[label] + fresh * (probabilities[label] - mean_[label]);
    }
  }
  at_ = at;
}

Smoothers::Smoothers(const Smoothing& smoothing) : smoothing_(smoothing) {
  const Smoother check(smoothing);  // so that nonsense is refused before the first face
}

std::vector<SmoothedLabel> Smoothers::update(const std::vector<int>& tracks, const float* rows, std::size_t classes,
                                             double at) {
  std::vector<SmoothedLabel> smoothed;
  smoothed.reserve(tracks.size());
  for (std::size_t row = 0; row < tracks.size(); ++row) {
    Memory& memory = each_.try_emplace(tracks[row], Memory{Smoother(smoothing_), at}).first->second;
    memory.seen = at;
    smoothed.push_back(memory.smoother.update(rows + row * classes, classes, at));
  }
  for (auto each = each_.begin(); each != each_.end();) {
    each = at - each->second.seen > forget ? each_.erase(each) : std::next(each);
  }
  return smoothed;
}

}  // namespace edgefer
