#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <opencv2/videoio.hpp>

#include "measure.hpp"
#include "sink.hpp"
#include "support.hpp"

using namespace edgefer::app;
using support::contains;
using support::Folder;

namespace {

const std::vector<std::string> kLabels{"angry", "ha\"ppy", "träurig"};

LabelledFrame labelled(std::int64_t number, cv::Size size = {64, 48}) {
  LabelledFrame made;
  made.frame = support::frame(number, size);
  made.labelled_at = made.frame.captured + 0.0094;
  return made;
}

long frames_of(const std::filesystem::path& path) {
  cv::VideoCapture video(path.string());
  cv::Mat pixels;
  long count = 0;
  while (video.read(pixels)) ++count;
  return count;
}

}  // namespace

TEST_CASE("events are Python's: the same keys, rounded alike, one line per face") {
  const Folder folder;
  const auto file = folder.path / "events.jsonl";
  auto sink = open_events(file.string(), kLabels, true);
  auto first = labelled(3);
  first.faces = {support::face(1, 1), support::face(2, -1, 30.26)};
  CHECK(sink->write(first));
  CHECK(sink->write(labelled(4)));
  sink->close();
  std::stringstream lines(support::read(file));
  std::vector<nlohmann::json> events;
  for (std::string line; std::getline(lines, line);) events.push_back(nlohmann::json::parse(line));
  REQUIRE(events.size() == 2);
  CHECK(events[0] == nlohmann::json::parse(R"({"time": 1764000000.5, "frame": 3, "video_s": 0.1, "track": 1,
    "box": [10.0, 12.0, 20.0, 24.0], "score": 0.932, "predicted": false, "label": "ha\"ppy",
    "probabilities": {"angry": 0.1, "ha\"ppy": 0.7, "träurig": 0.2}, "age_ms": 9.4})"));
  CHECK(events[1]["label"].is_null());
  CHECK(events[1]["box"][0] == 30.3);
}

TEST_CASE("of a camera, events carry no place in a video") {
  const Folder folder;
  auto sink = open_events((folder.path / "e").string(), kLabels, false);
  auto one = labelled(0);
  one.faces = {support::face(1, 0)};
  sink->write(one);
  CHECK(nlohmann::json::parse(support::read(folder.path / "e")).at("video_s").is_null());
}

TEST_CASE("events that cannot be written are said") {
  const auto fault = [](const char* path) { return support::refusal([&] { open_events(path, kLabels, false); }); };
  CHECK(contains(fault("/no/such/folder/e.jsonl"), "No such file or directory"));
  auto full = open_events("/dev/full", kLabels, false);
  auto one = labelled(0);
  one.faces = {support::face(1, 0)};
  CHECK(contains(support::refusal([&] { full->write(one); }), "No space left on device"));
}

TEST_CASE("a video of a file has every frame once, and its name only when it is whole") {
  const Folder folder;
  const auto path = folder.path / "out.mp4";
  auto video = open_video(path, 30, false);
  for (int number = 0; number < 12; ++number) video->write(labelled(number));
  CHECK_FALSE(std::filesystem::exists(path));
  video->close();
  CHECK(frames_of(path) == 12);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path), {}) == 1);
}

TEST_CASE("a video of a camera runs at the right speed: frames are repeated or left out") {
  const Folder folder;
  for (const double fps : {10.0, 60.0}) {
    const auto path = folder.path / "out.mp4";
    auto video = open_video(path, fps, true);
    for (int number = 0; number <= 30; ++number) video->write(labelled(number));  // a second, at thirty frames
    video->close();
    CHECK(std::abs(static_cast<double>(frames_of(path)) - fps) <= 2);
  }
}

TEST_CASE("a video goes on at its own size when the pictures change theirs") {
  const Folder folder;
  auto video = open_video(folder.path / "out.mp4", 30, false);
  for (int number = 0; number < 4; ++number)
    video->write(labelled(number, number < 2 ? cv::Size(64, 48) : cv::Size(96, 64)));
  video->close();
  CHECK(frames_of(folder.path / "out.mp4") == 4);
}

TEST_CASE("a picture of another shape keeps its proportions in a video") {
  const Folder folder;
  auto video = open_video(folder.path / "out.mp4", 30, false);
  video->write(labelled(0, {96, 48}));
  video->write(labelled(1, {48, 48}));
  video->close();
  cv::VideoCapture written((folder.path / "out.mp4").string());
  cv::Mat pixels;
  for (int i = 0; i < 2; ++i) REQUIRE(written.read(pixels));
  CHECK(pixels.size() == cv::Size(96, 48));
  CHECK(cv::mean(pixels.colRange(0, 20))[0] < 20);
  CHECK(cv::mean(pixels.colRange(28, 68))[0] == doctest::Approx(90).epsilon(0.1));
}

TEST_CASE("a video that cannot be is refused, and one without frames is not written") {
  const Folder folder;
  const auto fault = [](const std::filesystem::path& path) {
    return support::refusal([&] { open_video(path, 30, false); });
  };
  CHECK(contains(fault("out.avi"), "--video out.mp4"));
  CHECK(contains(fault(folder.path / "none" / "out.mp4"), "there is no folder"));
  open_video(folder.path / "out.mp4", 30, false)->close();
  CHECK(std::filesystem::is_empty(folder.path));
}

TEST_CASE("no window without a display") {
  unsetenv("DISPLAY");
  unsetenv("WAYLAND_DISPLAY");
  CHECK_FALSE(has_display());
  CHECK(contains(support::refusal([] { open_window("title", false, {}); }), "neither DISPLAY nor WAYLAND_DISPLAY"));
}

TEST_CASE("the overlay draws the box in the colour of the class, and stays inside the picture") {
  for (const auto& at : {cv::Point(40, 60), cv::Point(-15, -10), cv::Point(180, 130)}) {
    auto one = labelled(0, {200, 150});
    one.faces = {support::face(1, 1, at.x, at.y)};
    one.faces[0].tracked.detection.box.width = 50;
    const cv::Mat before = one.frame.pixels.clone();
    draw(one.frame.pixels, one, kLabels, {std::nullopt, "net FP32"});
    cv::Mat changed;
    cv::compare(before.reshape(1), one.frame.pixels.reshape(1), changed, cv::CMP_NE);
    CHECK(cv::countNonZero(changed) > 200);
  }
  auto one = labelled(0, {200, 150});
  one.faces = {support::face(1, 1, 40, 90)};
  draw(one.frame.pixels, one, kLabels, {12.0, "net FP32"});
  CHECK(one.frame.pixels.at<cv::Vec3b>(100, 40) == cv::Vec3b(70, 150, 50));
}

TEST_CASE("bars and labels cover no neighbour, as in Python") {
  const auto drawn = [](const std::vector<cv::Rect>& boxes) {
    auto one = labelled(0, {640, 480});
    for (const auto& box : boxes) {
      auto face = support::face(static_cast<int>(one.faces.size()), 1, box.x, box.y);
      face.tracked.detection.box.width = box.width;
      face.tracked.detection.box.height = box.height;
      one.faces.push_back(face);
    }
    const cv::Mat before = one.frame.pixels.clone();
    draw(one.frame.pixels, one, kLabels, {std::nullopt, "net FP32"});
    for (const auto& box : boxes) {
      const cv::Rect inside(box.x + 4, box.y + 40, box.width - 8, box.height - 44);
      CHECK(cv::norm(before(inside), one.frame.pixels(inside), cv::NORM_INF) == 0);
    }
    return one.frame.pixels;
  };
  const auto bar = [](const cv::Mat& pixels, cv::Rect where) {
    cv::Mat found;
    cv::inRange(pixels(where), cv::Scalar(70, 150, 50), cv::Scalar(70, 150, 50), found);
    return cv::countNonZero(found);
  };
  CHECK(bar(drawn({{80, 80, 150, 150}}), {240, 80, 200, 150}) > 200);                      // on the right
  CHECK(bar(drawn({{200, 80, 150, 150}, {355, 80, 145, 145}}), {0, 80, 196, 150}) > 200);  // on the left
  CHECK(bar(drawn({{160, 80, 150, 150}, {315, 80, 145, 145}, {5, 80, 145, 145}}), {160, 235, 150, 200}) > 200);
}

TEST_CASE("the summary says what a person wants to know") {
  Summary summary;
  summary.read = 1300;
  summary.shown = 1234;
  summary.seconds = 41.1;
  summary.fps = 30.0;
  summary.age_p50_ms = 9.44;
  summary.age_p95_ms = 12.0;
  summary.dropped_detect = 66;
  summary.tracks = 1;
  summary.reconnects = 2;
  CHECK(summary.text() ==
        "1,234 frames shown in 41.1 s, 30.0 fps · frame to label 9.4 ms (p50), 12.0 ms (p95) · 1 face · 66 of 1,300 "
        "frames "
        "dropped (66 before detect) · 2 reconnections");
}

TEST_CASE("percentiles are numpy's, of the last 4,096 values") {
  Durations durations;
  CHECK_FALSE(durations.percentile(50));
  for (int i = 0; i < 10'000; ++i) durations.add(i < 5904 ? 1e9 : i - 5904);
  CHECK(*durations.percentile(50) == doctest::Approx(2047.5));
  CHECK(*durations.percentile(95) == doctest::Approx(3890.25));
  CHECK(*durations.mean() == doctest::Approx(2047.5));
}
