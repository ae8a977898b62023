#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN  // here, for all files of the program
#include <doctest/doctest.h>

#include <chrono>
#include <thread>

#include "app.hpp"
#include "fakes.hpp"
#include "frame.hpp"
#include "support.hpp"

using namespace edgefer::app;
using namespace fakes;
using edgefer::Error;
using support::contains;

namespace {

const auto kOne = [](const Frame&) { return std::vector<Detection>{at(10, 10)}; };
const auto kNone = [](const Frame&) { return std::vector<Detection>{}; };

#ifdef __SANITIZE_ADDRESS__
constexpr bool kKeepsFreedMemory = true;  // for a while, to find who still uses it: 256 MB of it
#else
constexpr bool kKeepsFreedMemory = false;
#endif

long resident_kilobytes() {
  const std::string status = support::read("/proc/self/status");
  return std::stol(status.substr(status.find("VmRSS:") + 6));
}

}  // namespace

TEST_CASE("a file loses no frame and ends cleanly") {
  KeepingSink sink;
  Bench bench(std::make_unique<FakeSource>(40, false), FakeDetector(kOne), {&sink});
  const Summary summary = bench.app.run();
  REQUIRE(sink.labelled.size() == 40);
  for (std::size_t i = 0; i < 40; ++i) {
    CHECK(sink.labelled[i].frame.number == static_cast<std::int64_t>(i));
    REQUIRE(sink.labelled[i].faces.size() == 1);
    CHECK(sink.labelled[i].faces[0].tracked.number == 1);
    CHECK(sink.labelled[i].faces[0].smoothed.label == 2);
  }
  CHECK(summary.read == 40);
  CHECK(summary.shown == 40);
  CHECK(summary.dropped_detect + summary.dropped_infer + summary.dropped_draw == 0);
  CHECK(sink.closed);
  CHECK_FALSE(bench.app.left_a_thread_behind());
}

TEST_CASE("the detector searches every N frames, and at once when something is new") {
  KeepingSink sink;
  Options options;
  options.every = 5;
  Bench bench(std::make_unique<FakeSource>(20, false), FakeDetector(kOne), {&sink}, options);
  bench.app.run();
  std::vector<std::int64_t> searched;
  for (const auto& labelled : sink.labelled) {
    if (labelled.searched) searched.push_back(labelled.frame.number);
  }
  CHECK(searched == std::vector<std::int64_t>{0, 1, 6, 11, 16});
}

TEST_CASE("a slow stage drops frames of a camera and counts them; with every_frame it drops none") {
  const auto slow = [](const Frame&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return std::vector<Detection>{};
  };
  for (const bool every_frame : {false, true}) {
    KeepingSink sink;
    Options options;
    options.every = 1;
    options.every_frame = every_frame;
    Bench bench(std::make_unique<FakeSource>(30, true, nullptr, 0.004), FakeDetector(slow), {&sink}, options);
    const Summary summary = bench.app.run();
    const auto dropped = summary.dropped_detect + summary.dropped_infer + summary.dropped_draw;
    CHECK(summary.read == 30);
    CHECK(summary.shown + dropped == 30);
    CHECK((every_frame ? dropped == 0 : dropped > 10));
  }
}

TEST_CASE("a fault in any stage ends the app with it, and the sinks are closed") {
  const auto full = []() -> bool { throw Error("the disk is full"); };
  for (const int where : {0, 1, 2}) {
    KeepingSink sink([&](const LabelledFrame& labelled) { return where != 2 || labelled.frame.number < 3 || full(); });
    const auto detect = [&](const Frame& frame) {
      if (where == 1 && frame.number >= 3) full();  // the third itself may have been dropped
      return std::vector<Detection>{};
    };
    auto source = where == 0 ? std::make_unique<FakeSource>(5, true, [&] { full(); })
                             : std::make_unique<FakeSource>(100'000, true, nullptr, 0.001);
    Bench bench(std::move(source), FakeDetector(detect), {&sink});
    const double start = monotonic();
    CHECK(contains(support::refusal([&] { bench.app.run(); }), "the disk is full"));
    CHECK(sink.closed);
    CHECK(monotonic() - start < 1);
  }
}

TEST_CASE("a sink, another thread or the clock can end it within a second") {
  for (const int how : {0, 1, 2}) {
    KeepingSink sink([&](const LabelledFrame& labelled) { return how != 0 || labelled.frame.number < 7; });
    Options options;
    if (how == 2) options.seconds = 0.1;
    Bench bench(std::make_unique<FakeSource>(1'000'000, true, nullptr, 0.001), FakeDetector(kNone), {&sink}, options);
    std::thread other;
    if (how == 1) {
      other = std::thread([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        bench.app.stop();
      });
    }
    const double start = monotonic();
    bench.app.run();
    CHECK(monotonic() - start < 1);
    CHECK(sink.closed);
    if (other.joinable()) other.join();
  }
}

TEST_CASE("pictures that change their size are followed anew") {
  KeepingSink sink;
  auto source = std::make_unique<FakeSource>(12, false);
  source->size_of = [](int number) { return number <= 6 ? cv::Size(64, 48) : cv::Size(128, 96); };
  const auto detect = [](const Frame& frame) {
    return std::vector<Detection>{frame.pixels.cols == 64 ? at(10, 10) : at(90, 60)};
  };
  Options options;
  options.every = 10;
  Bench bench(std::move(source), FakeDetector(detect), {&sink}, options);
  bench.app.run();
  REQUIRE(sink.labelled.size() == 12);
  for (const auto& labelled : sink.labelled) {
    REQUIRE(labelled.faces.size() == 1);
    const bool small = labelled.frame.pixels.cols == 64;
    CHECK(labelled.faces[0].tracked.number == (small ? 1 : 2));
    CHECK(labelled.faces[0].tracked.detection.box.x == doctest::Approx(small ? 10 : 90));
  }
}

TEST_CASE("two hundred faces are labelled up to the maximum, and the rest is counted") {
  KeepingSink sink;
  const auto crowd = [](const Frame&) {
    std::vector<Detection> faces;
    for (int i = 0; i < 200; ++i) faces.push_back(at(12 * (i % 20), 10 * (i / 20), 8 + i / 100.0));
    return faces;
  };
  Options options;
  options.max_faces = 50;
  Bench bench(std::make_unique<FakeSource>(3, false), FakeDetector(crowd), {&sink}, options);
  bench.app.run();
  for (const auto& labelled : sink.labelled) {
    CHECK(labelled.faces.size() == 50);
    CHECK(labelled.left_out == 150);
    for (const auto& face : labelled.faces) CHECK(face.tracked.detection.box.width > 9.4);
  }
}

TEST_CASE("hours without a face, and with faces that come and go, need no more memory") {
  for (const bool empty : {true, false}) {
    long early = 0;
    int shown = 0;
    class Counting final : public Sink {
     public:
      Counting(int& count, long& mark) : count_(count), mark_(mark) {}
      bool wants_picture() const override { return false; }
      bool write(const LabelledFrame&) override {
        if (++count_ == 2000) mark_ = resident_kilobytes();
        return true;
      }
      void close() override {}

     private:
      int& count_;
      long& mark_;
    } sink(shown, early);
    // Somebody else every forty frames.
    const auto passing = [](const Frame& frame) {
      std::vector<Detection> faces;
      if (frame.number % 40 < 20) faces.push_back(at(static_cast<double>(frame.number / 40 % 2) * 30, 10, 12));
      return faces;
    };
    Bench bench(std::make_unique<FakeSource>(12'000, false), empty ? FakeDetector(kNone) : FakeDetector(passing),
                {&sink});
    const Summary summary = bench.app.run();
    CHECK(shown == 12'000);
    CHECK((empty ? summary.tracks == 0 : summary.tracks > 250));
    CHECK((kKeepsFreedMemory || resident_kilobytes() - early < 2048));
  }
}

TEST_CASE("the newest replaces what nobody took, and is counted") {
  Mailbox<int> box(true);
  for (const int item : {1, 2, 3}) box.put(item);
  CHECK(box.get() == 3);
  CHECK(box.dropped() == 2);
}

TEST_CASE("without drops the giver waits, and everything arrives in order") {
  Mailbox<int> box(false);
  std::thread giver([&] {
    for (int item = 0; item < 1000; ++item) box.put(item);
    box.close();
  });
  int next = 0;
  while (const auto item = box.get()) CHECK(*item == next++);
  giver.join();
  CHECK(next == 1000);
  CHECK(box.dropped() == 0);
}

TEST_CASE("a closed box gives what is inside, then nothing, and takes nothing") {
  Mailbox<int> box(true);
  box.put(7);
  box.close();
  box.put(8);
  CHECK(box.get() == 7);
  CHECK_FALSE(box.get().has_value());
}

TEST_CASE("closing frees a giver that waits") {
  Mailbox<int> box(false);
  box.put(1);
  std::thread giver([&] { box.put(2); });
  box.close();
  giver.join();
  CHECK(box.get() == 1);
  CHECK_FALSE(box.get().has_value());
}
