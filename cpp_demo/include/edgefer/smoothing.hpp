#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <vector>

namespace edgefer {

/// How labels are smoothed.
struct Smoothing {
  enum class Kind {
    ema,       ///< Exponential mean of probabilities.
    majority,  ///< Majority of the last ten pictures' labels.
    none,
  };
  Kind kind = Kind::ema;
  double seconds = 0.4;         ///< Time constant of the mean: a change has come through by 63 % after it.
  double margin = 0.08;         ///< Probability by which another label must lead before it replaces the one shown.
  double min_confidence = 0.4;  ///< The confidence threshold: below this probability there is no label.
};

/// One face's answer after smoothing.
struct SmoothedLabel {
  std::vector<float> probabilities;
  int label = -1;  ///< Index of what is shown; −1 if unsure.
};

/// The memory of one face.
class Smoother {
 public:
  /// Throws Error: values that make no sense.
  explicit Smoother(const Smoothing& smoothing);

  /// Take one picture's probabilities, `classes` that sum to 1, at the time `at` in seconds.
  SmoothedLabel update(const float* probabilities, std::size_t classes, double at);

 private:
  void smooth(const float* probabilities, std::size_t classes, double at);

  Smoothing how_;
  std::vector<float> mean_;
  std::deque<std::size_t> votes_;
  double at_ = 0.0;
  int leader_ = -1;
  bool sure_ = false;
};

/// One Smoother a track; those of tracks not seen for five seconds are forgotten.
class Smoothers {
 public:
  /// Throws Error: values that make no sense.
  explicit Smoothers(const Smoothing& smoothing);

  /// A row of `classes` probabilities at `rows` for each of `tracks`, at the time `at` in seconds.
  std::vector<SmoothedLabel> update(const std::vector<int>& tracks, const float* rows, std::size_t classes, double at);

 private:
  struct Memory {
    Smoother smoother;
    double seen;
  };
  Smoothing smoothing_;
  std::map<int, Memory> each_;
};

}  // namespace edgefer
