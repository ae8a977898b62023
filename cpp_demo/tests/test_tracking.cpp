#include <doctest/doctest.h>

#include <cmath>

#include "edgefer/classifier.hpp"
#include "edgefer/error.hpp"
#include "vectors.hpp"

namespace {

void check_equal(const edgefer::Detection& found, const edgefer::Detection& wanted) {
  CHECK(found.box.x == doctest::Approx(wanted.box.x).epsilon(1e-9));
  CHECK(found.box.y == doctest::Approx(wanted.box.y).epsilon(1e-9));
  CHECK(found.box.width == doctest::Approx(wanted.box.width).epsilon(1e-9));
  CHECK(found.box.height == doctest::Approx(wanted.box.height).epsilon(1e-9));
  CHECK(found.crop.x == doctest::Approx(wanted.crop.x).epsilon(1e-9));
  CHECK(found.crop.y == doctest::Approx(wanted.crop.y).epsilon(1e-9));
  CHECK(found.crop.side == doctest::Approx(wanted.crop.side).epsilon(1e-9));
  CHECK(found.crop.angle == wanted.crop.angle);
  CHECK(found.score == wanted.score);
  REQUIRE(found.landmarks.has_value() == wanted.landmarks.has_value());
  for (std::size_t i = 0; found.landmarks && i < 5; ++i) {
    CHECK((*found.landmarks)[i].x == doctest::Approx((*wanted.landmarks)[i].x).epsilon(1e-5));
    CHECK((*found.landmarks)[i].y == doctest::Approx((*wanted.landmarks)[i].y).epsilon(1e-5));
  }
}

}  // namespace

TEST_SUITE_BEGIN("tracking");

TEST_CASE("identities, places and predictions are Python's") {
  std::size_t shown = 0;
  for (const vectors::Video& video : vectors::tracking()) {
    edgefer::Tracker tracker(video.confirmations);
    for (const vectors::Step& step : video.steps) {
      if (step.reset) tracker.reset();
      const auto tracks = step.searched ? tracker.update(step.found, step.at) : tracker.predict(step.at);
      REQUIRE(tracks.size() == step.tracks.size());
      CHECK(tracker.wants_search() == step.wants_search);
      for (std::size_t i = 0; i < tracks.size(); ++i, ++shown) {
        CHECK(tracks[i].number == step.tracks[i].number);
        CHECK(tracks[i].predicted == step.tracks[i].predicted);
        check_equal(tracks[i].detection, step.tracks[i].detection);
      }
    }
  }
  CHECK(shown > 200);
}

TEST_CASE("boxes that hide others") {
  const std::vector<edgefer::Box> boxes = {{0, 0, 10, 10}, {1, 1, 10, 10}, {30, 0, 10, 10}, {0, 0, 10, 10}};
  CHECK(edgefer::suppress(boxes, {0.5, 0.9, 0.6, 0.5}, 0.3) == std::vector<std::size_t>{1, 2});
  CHECK(edgefer::suppress(boxes, {0.5, 0.4, 0.6, 0.5}, 0.7) == std::vector<std::size_t>{2, 0, 1});
  CHECK(edgefer::suppress({}, {}, 0.3).empty());
  CHECK(edgefer::overlap(boxes[0], boxes[1]) == doctest::Approx(81.0 / 119.0));
}

TEST_SUITE_END();

TEST_SUITE_BEGIN("smoothing");

TEST_CASE("labels change when Python's do") {
  for (const vectors::Mood& mood : vectors::smoothing()) {
    edgefer::Smoothing how;
    how.kind = mood.kind;
    edgefer::Smoother smoother(how);
    int changes = 0, last = -2;
    for (const vectors::Calming& step : mood.steps) {
      const edgefer::SmoothedLabel smoothed = smoother.update(step.in.data(), step.in.size(), step.at);
      CHECK(smoothed.label == step.label);
      REQUIRE(smoothed.probabilities.size() == step.out.size());
      for (std::size_t i = 0; i < step.out.size(); ++i) {
        CHECK(smoothed.probabilities[i] == doctest::Approx(step.out[i]).epsilon(1e-5));
      }
      changes += smoothed.label != last ? 1 : 0;
      last = smoothed.label;
    }
    CHECK(changes > 3);
  }
}

TEST_CASE("each track has its own memory, and hours of faces leave none behind") {
  edgefer::Smoothing how;
  edgefer::Smoothers smoothers(how);
  const std::vector<float> rows = {1.0F, 0.0F, 0.0F, 1.0F};
  const auto both = smoothers.update({1, 2}, rows.data(), 2, 0.0);
  CHECK(both[0].label == 0);
  CHECK(both[1].label == 1);
  const std::vector<float> other = {0.0F, 1.0F};
  CHECK(smoothers.update({1}, other.data(), 2, 0.01)[0].label == 0);  // one picture changes nothing
  CHECK(smoothers.update({1}, other.data(), 2, 10.0)[0].label == 1);  // long after, it does
  CHECK(smoothers.update({2}, rows.data(), 2, 10.0)[0].label == 0);   // forgotten, begun anew
  CHECK(smoothers.update({}, nullptr, 2, 11.0).empty());
}

TEST_CASE("smoothing that makes no sense") {
  edgefer::Smoothing how;
  how.seconds = 0.0;
  CHECK_THROWS_WITH_AS(edgefer::Smoothers{how}, doctest::Contains("makes no sense"), edgefer::Error);
}

TEST_CASE("softmax") {
  std::vector<float> row = {1000.0F, 999.0F, -1000.0F};
  edgefer::softmax(row.data(), 3);
  CHECK(row[0] == doctest::Approx(1.0 / (1.0 + std::exp(-1.0))));
  CHECK(row[2] == 0.0F);
  CHECK(edgefer::top(row.data(), 3) == 0);
}

TEST_SUITE_END();
