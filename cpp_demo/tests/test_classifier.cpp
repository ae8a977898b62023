#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>

#include "edgefer.h"
#include "edgefer/classifier.hpp"
#include "edgefer/error.hpp"
#include "edgefer/notes.hpp"
#include "vectors.hpp"

namespace {

using edgefer::Classifier;
using edgefer::Error;

/// A copy of an engine with its manifest, for a test to spoil.
struct Copy {
  explicit Copy(const std::string& name = "fp32.onnx") : engine(scratch / name) {
    std::filesystem::copy_file(vectors::folder() / name, engine);
    std::filesystem::copy_file(vectors::folder() / (name + ".json"), edgefer::manifest_path(engine));
  }

  void change(const std::string& changes) const {
    const auto path = edgefer::manifest_path(engine);
    vectors::write(path, vectors::changed(vectors::read(path), changes));
  }

  /// Another content, with a manifest that has its hash: what a hash cannot catch.
  void replace(const std::string& content) const {
    vectors::write(engine, content);
    change(R"({"engine": {"sha256": ")" + edgefer::sha256(content.data(), content.size()) + R"("}})");
  }

  void refused(const char* why) const { CHECK_THROWS_WITH_AS(Classifier::load(engine), doctest::Contains(why), Error); }

  vectors::Scratch scratch;
  std::filesystem::path engine;
};

double apart(const std::vector<float>& found, const std::vector<float>& wanted) {
  REQUIRE(found.size() == wanted.size());
  double max = 0.0;
  for (std::size_t i = 0; i < found.size(); ++i) max = std::max<double>(max, std::abs(found[i] - wanted[i]));
  return max;
}

/// Resident memory of this process in MB.
double resident() {
  std::ifstream stream("/proc/self/statm");
  double pages = 0.0;
  stream >> pages >> pages;
  return pages * 4096.0 / 1e6;
}

}  // namespace

TEST_SUITE_BEGIN("classifier");

TEST_CASE("FP32 logits are Python's, in any batch") {
  Classifier classifier = Classifier::load(vectors::folder() / "fp32.onnx");
  const std::vector<std::uint8_t> faces = vectors::synthetic_faces();
  CHECK(classifier.golden_difference() < 1e-5);
  CHECK(apart(classifier.logits(faces.data(), 13), vectors::answers("fp32")) < 1e-4);
  CHECK(apart(classifier.logits(faces.data(), 13), vectors::answers("onnxruntime")) < 1e-4);
  for (const std::size_t count : {1, 2, 3, 5, 8}) {
    std::vector<float> wanted = vectors::answers("fp32");
    wanted.resize(count * 7);
    CHECK(apart(classifier.logits(faces.data(), count), wanted) < 1e-4);
  }
  CHECK(apart(classifier.probabilities(faces.data(), 8), vectors::answers("fp32-probabilities")) < 1e-5);
  CHECK(classifier.logits(faces.data(), 0).empty());
}

TEST_CASE("INT8 answers are Python's, to the bit") {
  Classifier classifier = Classifier::load(vectors::folder() / "int8.onnx");
  const std::vector<std::uint8_t> faces = vectors::synthetic_faces();
  CHECK(classifier.golden_difference() == 0.0);
  CHECK(classifier.logits(faces.data(), 8) == vectors::answers("int8-batch8"));
  const std::vector<float> wanted = vectors::answers("int8");
  for (std::size_t face = 0; face < 13; ++face) {
    const std::vector<float> row(wanted.begin() + static_cast<std::ptrdiff_t>(face) * 7,
                                 wanted.begin() + static_cast<std::ptrdiff_t>(face + 1) * 7);
    CHECK(classifier.logits(faces.data() + face * 48 * 48, 1) == row);
  }
}

TEST_CASE("a copy loads, and what is missing is named") {
  const Copy copy;
  CHECK(Classifier::load(copy.engine).contract().labels.size() == 7);
  std::filesystem::remove(edgefer::manifest_path(copy.engine));
  copy.refused("has no manifest");
  std::filesystem::remove(copy.engine);
  copy.refused("there is no engine");
}

TEST_CASE("manifests that do not fit their engine") {
  const Copy copy;
  const std::string content = vectors::read(copy.engine);
  vectors::write(copy.engine, content + "x");
  copy.refused("is not the engine its manifest describes");
  vectors::write(copy.engine, content);
  copy.change(R"({"runtime": {"name": "tensorrt-rtx"}})");
  copy.refused("is for tensorrt-rtx, which this build of the library does not have");
  copy.change(
      R"({"runtime": {"name": "onnxruntime"}, "golden": {"tolerance": {"openvino": null, "onnxruntime": 0.001}}})");
  copy.refused("--runtime openvino");
  copy.change(
      R"({"runtime": {"name": "openvino"}, "golden": {"tolerance": {"openvino": null, "onnxruntime": null, "tensorrt": 0.1}}})");
  copy.refused("was never checked with openvino: its golden vectors are for tensorrt");
}

TEST_CASE("a float engine of another runtime runs in one that its golden vectors are for, too") {
  const Copy copy;
  copy.change(R"({"runtime": {"name": "onnxruntime", "version": ""}, "instruction_set": []})");
  std::vector<std::string> notes;
  edgefer::set_announcer([&](const std::string& note) { notes.push_back(note); });
  CHECK(std::string(Classifier::load(copy.engine).session().runtime()) == "openvino");
  CHECK(notes.empty());  // it was compiled for no CPU and no version
  edgefer::set_announcer({});
  const Copy integers("int8.onnx");
  integers.change(R"({"runtime": {"name": "onnxruntime"}})");
  integers.refused("is for onnxruntime, which this build of the library does not have");
}

TEST_CASE("golden vectors that differ are refused with both answers") {
  const Copy copy;
  const edgefer::Manifest manifest = edgefer::Manifest::beside(copy.engine);
  std::string rows;
  for (std::size_t face = 0; face < manifest.golden.count; ++face)
    rows += face > 0 ? ",[1,2,3,4,5,6,7]" : "[1,2,3,4,5,6,7]";
  copy.change(R"({"golden": {"logits": [)" + rows + "]}}");
  copy.refused("does not answer here as when it was built");
  copy.refused("happy");
  copy.refused("(golden 4)");
}

TEST_CASE("labels that the engine does not have") {
  const Copy copy;
  const edgefer::Manifest manifest = edgefer::Manifest::beside(copy.engine);
  std::string rows;
  for (std::size_t face = 0; face < manifest.golden.count; ++face) rows += face > 0 ? ",[1,2]" : "[1,2]";
  copy.change(R"({"contract": {"labels": ["sad", "happy"]}, "golden": {"logits": [)" + rows + "]}}");
  copy.refused("has the output 'logits' float32 N×7; its contract asks for 'logits' float32 N×2");
}

TEST_CASE("a manifest that was edited states another contract than the file") {
  const Copy copy;
  copy.change(R"({"contract": {"labels": ["happy", "disgust", "fear", "angry", "sad", "surprise", "neutral"]}})");
  copy.refused("states another contract (labels, input or crop) than the file itself");
  const Copy other;
  other.change(R"({"precision": {"got": "int8"}})");
  other.refused("states another precision (int8, and the file fp32)");
}

TEST_CASE("8-bit weights on a processor that would saturate") {
  std::vector<std::string> notes;
  edgefer::set_announcer([&](const std::string& note) { notes.push_back(note); });
  const Copy copy("int8.onnx");
  copy.change(R"({"instruction_set": ["asimd"], "runtime": {"version": "2020.1"}})");
  CHECK(Classifier::load(copy.engine).contract().labels.size() == 7);  // where these tests are built, or it throws
  REQUIRE(notes.size() == 2);
  CHECK(notes[0].find("was built and measured on a CPU with asimd") != std::string::npos);
  CHECK(notes[1].find("was built with openvino 2020.1 and runs in 20") != std::string::npos);
  edgefer::set_announcer({});
}

TEST_CASE("engines cut short or changed, with a manifest that says so") {
  edgefer::set_announcer({});
  for (const std::string name : {"fp32.onnx", "int8.onnx"}) {
    const Copy copy(name);
    const std::string whole = vectors::read(copy.engine);
    int refused = 0, served = 0;
    const auto attempt = [&](const std::string& content) {
      copy.replace(content);
      try {
        served += Classifier::load(copy.engine).contract().labels.size() == 7 ? 1 : 0;
      } catch (const Error&) {
        ++refused;
      }
    };
    for (std::size_t part = 0; part < 24; ++part) attempt(whole.substr(0, whole.size() * part / 24));
    CHECK(served == 0);
    std::uint32_t state = 3;
    for (int round = 0; round < 24; ++round) {
      std::string other = whole;
      for (int change = 0; change < 8; ++change) {
        state = 1664525 * state + 1013904223;
        other[state % other.size()] = static_cast<char>(state >> 24);
      }
      attempt(other);
    }
    CHECK(refused >= 24);
  }
}

TEST_CASE("a session refuses what it does not know") {
  auto session = edgefer::open_session("openvino", vectors::folder() / "fp32.onnx");
  CHECK(edgefer::to_string(session->inputs()[0]) == "'faces' uint8 N×48×48×1");
  CHECK(session->max_batch() == -1);
  CHECK_THROWS_WITH_AS(session->run(), doctest::Contains("was not filled"), Error);
  CHECK_THROWS_WITH_AS(session->output("logits"), doctest::Contains("before anything was run"), Error);
  CHECK_THROWS_WITH_AS(session->input("face", {1, 48, 48, 1}), doctest::Contains("no input 'face'"), Error);
  CHECK_THROWS_WITH_AS(session->input("faces", {1, 48, 48, 3}), doctest::Contains("not 'faces' uint8 1×48×48×3"),
                       Error);
  CHECK_THROWS_WITH_AS(session->input("faces", {0, 48, 48, 1}), doctest::Contains("the network takes"), Error);
  CHECK_THROWS_WITH_AS(edgefer::open_session("openvino", "/nowhere.onnx"), doctest::Contains("cannot be opened"),
                       Error);
  CHECK_THROWS_WITH_AS(edgefer::open_session("ncnn", "x.onnx"), doctest::Contains("is for ncnn"), Error);
  CHECK_THROWS_WITH_AS(edgefer::open_session("openvino", vectors::folder() / "fp32.onnx", {0, "fp32"}),
                       doctest::Contains("threads is 1 or more"), Error);
}

TEST_CASE("an engine from elsewhere gets a manifest if it answers as the host's did") {
  const Copy copy("int8.onnx");
  const auto host = (vectors::folder() / "fp32.onnx.json").string();
  const auto written = [&](const std::string& like, const std::string& precision) {
    return std::system((EDGEFER_WRITE_MANIFEST " " + copy.engine.string() + " --like " + like + " --precision " +
                        precision + " > /dev/null 2>&1")
                           .c_str());
  };
  const auto manifest = edgefer::manifest_path(copy.engine);
  std::filesystem::remove(manifest);
  CHECK(written(host, "fp32") != 0);  // INT8 is further from the host's FP32 than FP32 may be
  CHECK(written(host, "int7") != 0);
  CHECK(written("/nowhere.json", "int8") != 0);
  CHECK(written(host, "int8 --dla one") != 0);
  CHECK(written(host, "int8 --dla -1") != 0);
  CHECK(written(host, "int8 --dla 0") != 0);  // a CPU's engine
  CHECK_FALSE(std::filesystem::exists(manifest));
  REQUIRE(written(host, "int8") == 0);
  Classifier classifier = Classifier::load(copy.engine);
  CHECK(classifier.golden_difference() == 0.0);
  CHECK(classifier.manifest().precision == "int8");
  CHECK(classifier.contract().labels.size() == 7);
}

TEST_CASE("other languages") {
  edgefer_engine* engine = nullptr;
  CHECK(edgefer_open("/nowhere.onnx", 1, &engine) == -1);
  CHECK(engine == nullptr);
  CHECK(std::string(edgefer_error()).find("there is no engine /nowhere.onnx") == 0);
  CHECK(std::string(edgefer_hint()).find("check the path") == 0);
  CHECK(edgefer_open(nullptr, 1, &engine) == -1);
  REQUIRE(edgefer_open((vectors::folder() / "fp32.onnx").c_str(), 1, &engine) == 0);
  CHECK(std::string(edgefer_error()).empty());
  CHECK(edgefer_labels(engine) == 7);
  CHECK(std::string(edgefer_label(engine, 3)) == "happy");
  CHECK(edgefer_label(engine, 7) == nullptr);
  const std::vector<std::uint8_t> faces = vectors::synthetic_faces();
  std::vector<float> rows(2 * 7);
  const edgefer_box boxes[2] = {{0, 0, 48, 48}, {0, 0, 48, 48}};
  REQUIRE(edgefer_classify(engine, faces.data(), 48, 48, 48, EDGEFER_GREY, boxes, 2, rows.data()) == 0);
  std::vector<float> wanted = vectors::answers("fp32-probabilities");
  for (std::size_t i = 0; i < 14; ++i) CHECK(rows[i] == doctest::Approx(wanted[i % 7]).epsilon(1e-4));
  const edgefer_box empty = {0, 0, 0, 0};
  CHECK(edgefer_classify(engine, faces.data(), 48, 48, 48, EDGEFER_GREY, &empty, 1, rows.data()) == -1);
  CHECK(std::string(edgefer_error()).find("has no area") != std::string::npos);
  CHECK(edgefer_classify(engine, nullptr, 48, 48, 48, EDGEFER_GREY, boxes, 1, rows.data()) == -1);
  CHECK(edgefer_classify(engine, faces.data(), 48, 48, 48, EDGEFER_GREY, nullptr, 0, nullptr) == 0);
  edgefer_close(engine);
  edgefer_close(nullptr);
}

TEST_SUITE_END();

TEST_SUITE_BEGIN("start-stop");

TEST_CASE("a thousand starts and stops leave nothing behind") {
  const std::filesystem::path engine = vectors::folder() / "fp32.onnx";
  const auto start = [&] { return Classifier::load(engine).golden_difference(); };
  for (int i = 0; i < 100; ++i) REQUIRE(start() < 1e-5);  // allocators reach their size
  const double before = resident();
  for (int i = 0; i < 900; ++i) REQUIRE(start() < 1e-5);
  const double grown = resident() - before;
  MESSAGE("grown by " << grown << " MB over 900 starts");
  CHECK(grown < 9.0);  // 10 kB a start would be 9 MB; the network alone is 234 kB
}

TEST_SUITE_END();
