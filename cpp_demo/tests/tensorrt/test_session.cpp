#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "../../src/internal.hpp"
#include "../../src/tensorrt_support.hpp"
#include "../vectors.hpp"
#include "edgefer/error.hpp"
#include "edgefer/notes.hpp"
#include "edgefer/tensorrt_session.hpp"
#include "fake.hpp"

namespace {

using edgefer::Error;
using edgefer::Shape;
using edgefer::TensorRtSession;

/// An engine file in a folder of its own, over a fresh fake; whatever is left over at the end is a failure.
struct World {
  World() {
    fake::state() = fake::State();
    vectors::write(engine, "an engine");
    edgefer::set_announcer([this](const std::string& note) { notes.push_back(note); });
  }
  ~World() {
    edgefer::set_announcer({});
    CHECK(fake::state().live == 0);
  }

  vectors::Scratch scratch;
  std::filesystem::path engine = scratch / "x.engine";
  std::vector<std::string> notes;
};

void ask(TensorRtSession& session, long count, int seed, bool on_device = false) {
  const Shape shape = {count, 2, 2, 1};
  void* const memory = on_device ? session.device_input("faces", shape) : session.input("faces", shape);
  auto* faces = static_cast<std::uint8_t*>(memory);
  for (long i = 0; i < 4 * count; ++i) faces[i] = static_cast<std::uint8_t>(7 * i + seed);
  std::vector<float> wanted;
  for (long i = 0; i < count; ++i) {
    const auto sum = static_cast<float>(std::accumulate(faces + 4 * i, faces + 4 * i + 4, 0));
    wanted.insert(wanted.end(), {sum, 2 * sum, static_cast<float>(count)});
  }
  session.run();
  const edgefer::TensorView answer = session.output("logits");
  CHECK(answer.shape == Shape{count, 3});
  CHECK(std::vector<float>(answer.as<float>(), answer.as<float>() + answer.size()) == wanted);
}

}  // namespace

TEST_CASE("named tensors, in the order that inputs come first") {
  const World world;
  const TensorRtSession session(world.engine);
  CHECK(edgefer::to_string(session.inputs().at(0)) == "'faces' uint8 N×2×2×1");
  CHECK(edgefer::to_string(session.outputs().at(0)) == "'logits' float32 N×3");
  CHECK(session.version() == "10.3.0");
  CHECK(session.device() == "Fake, SM87");
  CHECK(session.min_batch() == 1);
  CHECK(session.max_batch() == 8);
}

TEST_CASE("an engine for a DLA core is loaded for that core, where there is one") {
  const World world;
  CHECK_THROWS_WITH_AS(TensorRtSession(world.engine, 1),
                       doctest::Contains("is for DLA core 1, and TensorRT 10.3.0 finds 0"), Error);
  fake::state().dla_cores = 2;
  edgefer::open_tensorrt(world.engine, {1, "fp16", 1});
  CHECK(fake::state().dla_core == 1);
}

TEST_CASE("a shape is run once, then recorded once, then launched") {
  const World world;
  TensorRtSession session(world.engine);
  for (int i = 0; i < 5; ++i) ask(session, 2, i);
  CHECK(session.graphs() == 1);
  CHECK(fake::state().enqueued == 2);  // the first run, and the recording
  CHECK(fake::state().launched == 4);
  for (int i = 0; i < 12; ++i) ask(session, 1 << i % 4, i);  // batches of a camera's pictures, in turn
  CHECK(session.graphs() == 4);
  CHECK(fake::state().enqueued == 8);
  ask(session, 3, 1);  // a fifth shape takes the place of the oldest
  ask(session, 8, 1);
  CHECK(session.graphs() == 4);
}

TEST_CASE("before TensorRT 10 there is one context, and still a graph where shapes stay") {
  const World world;
  fake::state().version = 8601;
  TensorRtSession session(world.engine);
  CHECK(session.version() == "8.6.1");
  for (int i = 0; i < 4; ++i) ask(session, 2, i);
  CHECK(session.graphs() == 1);
  for (int i = 0; i < 6; ++i) ask(session, 1 + i % 2, i);  // shapes that alternate are run without
  CHECK(session.graphs() == 1);
}

TEST_CASE("an integrated GPU shares the memory: nothing is copied") {
  const World world;
  fake::state().integrated = true;
  TensorRtSession session(world.engine);
  for (int i = 0; i < 4; ++i) ask(session, 4, i);
  CHECK(fake::state().copies == 0);
  CHECK(session.graphs() == 1);
}

TEST_CASE("faces that a kernel wrote are not copied over") {
  const World world;
  TensorRtSession session(world.engine);
  for (int i = 0; i < 3; ++i) ask(session, 2, i, true);
  CHECK(fake::state().copies == 3);  // answers only
  ask(session, 2, 9);
  CHECK(fake::state().copies == 5);
  CHECK(session.stream() != nullptr);
}

TEST_CASE("an engine that cannot be recorded runs on, and says so once") {
  World world;
  fake::state().capturable = false;
  TensorRtSession session(world.engine);
  for (int i = 0; i < 4; ++i) ask(session, 2, i);
  CHECK(session.graphs() == 0);
  REQUIRE(world.notes.size() == 1);
  CHECK(world.notes[0].find("cannot be a CUDA graph") != std::string::npos);
}

TEST_CASE("a thousand starts and stops give everything back") {
  const World world;
  for (int i = 0; i < 1000; ++i) {
    TensorRtSession session(world.engine);
    ask(session, 1, i);
    ask(session, 1, i);
  }
  CHECK(fake::state().live == 0);
}

TEST_CASE("memory that runs out is given back") {
  const World world;
  for (int allowed = 0; allowed < 4; ++allowed) {
    fake::state().allowed = allowed;
    CHECK_THROWS_WITH_AS(TensorRtSession(world.engine), doctest::Contains("cudaErrorMemoryAllocation"), Error);
    CHECK(fake::state().live == 0);
  }
}

TEST_CASE("what is refused") {
  const World world;
  vectors::write(world.scratch / "other", "an image");
  CHECK_THROWS_WITH_AS(TensorRtSession(world.scratch / "other"), doctest::Contains(": magicTag does not match"), Error);
  {
    TensorRtSession session(world.engine);
    CHECK_THROWS_WITH_AS(session.input("faces", {9, 2, 2, 1}), doctest::Contains("outside the engine's profile, 1…8"),
                         Error);
    CHECK_THROWS_WITH_AS(session.input("faces", {1, 4, 1, 1}), doctest::Contains("the network takes"), Error);
    CHECK_THROWS_WITH_AS(session.run(), doctest::Contains("was not filled"), Error);
    CHECK_THROWS_WITH_AS(session.output("logits"), doctest::Contains("before anything was run"), Error);
  }
  fake::state().rows = 2;  // more answers than there is memory for
  {
    TensorRtSession session(world.engine);
    session.input("faces", {8, 2, 2, 1});
    CHECK_THROWS_WITH_AS(session.run(), doctest::Contains("is larger than its profile says"), Error);
    CHECK(fake::state().enqueued == 0);
  }
  fake::state().side = -1;
  CHECK_THROWS_WITH_AS(TensorRtSession(world.engine),
                       doctest::Contains("'faces' uint8 N×N×N×1 has a free size beside its batch"), Error);
  fake::state().has_gpu = false;
  CHECK_THROWS_WITH_AS(TensorRtSession(world.engine), doctest::Contains("there is no NVIDIA GPU here"), Error);
}

TEST_CASE("another TensorRT or another GPU than the manifest's") {
  const World world;
  edgefer::Manifest manifest;
  manifest.runtime_version = "10.3.0.26";
  manifest.device = "Fake, SM87";
  edgefer::check_tensorrt_place(world.engine, manifest);
  manifest.device = "Orin, SM87";
  CHECK_THROWS_WITH_AS(edgefer::check_tensorrt_place(world.engine, manifest),
                       doctest::Contains("was built for Orin, SM87, and this GPU is Fake, SM87"), Error);
  manifest.runtime_version = "8.5.2";
  CHECK_THROWS_WITH_AS(edgefer::check_tensorrt_place(world.engine, manifest),
                       doctest::Contains("was built with TensorRT 8.5.2, and 10.3.0 is installed here"), Error);
  manifest.portable = {"version"};
  manifest.device = "Fake, SM87";
  CHECK_THROWS_AS(edgefer::check_tensorrt_place(world.engine, manifest), Error);  // 8.5 had no such engines
  manifest.runtime_version = "8.6.1";
  edgefer::check_tensorrt_place(world.engine, manifest);
  manifest.runtime_version = "10.8.0";  // of a later one than is here
  CHECK_THROWS_AS(edgefer::check_tensorrt_place(world.engine, manifest), Error);
  manifest.runtime_version = "10.3.0";
  manifest.device = "A100, SM80";
  CHECK_THROWS_AS(edgefer::check_tensorrt_place(world.engine, manifest), Error);
  manifest.portable = {"hardware"};
  edgefer::check_tensorrt_place(world.engine, manifest);
  fake::state().integrated = true;  // a Jetson is no such GPU
  CHECK_THROWS_AS(edgefer::check_tensorrt_place(world.engine, manifest), Error);
  CHECK(edgefer::trt::loads("10.3.0", "11.1.0"));
  CHECK_FALSE(edgefer::trt::loads("8.6.1", "11.1.0"));
  fake::state().version = 8502;
  CHECK(edgefer::trt::version() == "8.5.2");
  CHECK(edgefer::trt::same_version("8.5.2.post1", "8.5.2"));
  CHECK_FALSE(edgefer::trt::same_version("8.5", "8.5.2"));
}

#if NV_TENSORRT_MAJOR * 100 + NV_TENSORRT_MINOR >= 806
TEST_CASE("code in an engine runs only where that was asked for") {
  const World world;
  vectors::write(world.engine, "an engine with code");
  CHECK_THROWS_WITH_AS(TensorRtSession(world.engine), doctest::Contains("magicTag does not match"), Error);
  TensorRtSession session(world.engine, -1, true);
  ask(session, 2, 1);
}
#endif

TEST_CASE("one logger hears every thread, and tells each error once") {
  edgefer::trt::Logger& logger = edgefer::trt::logger();
  CHECK(&logger == &edgefer::trt::logger());
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&logger] {
      for (int j = 0; j < 500; ++j) logger.log(nvinfer1::ILogger::Severity::kERROR, "a fault");
    });
  }
  for (std::thread& one : threads) one.join();
  CHECK(logger.reason().find("a fault · a fault") != std::string::npos);
  CHECK(logger.reason() == "its log has no error");
}
