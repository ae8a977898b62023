#include <doctest/doctest.h>

#include "../src/internal.hpp"
#include "edgefer/error.hpp"
#include "edgefer/manifest.hpp"
#include "edgefer/notes.hpp"
#include "vectors.hpp"

namespace {

using edgefer::Error;
using edgefer::Manifest;

/// A small manifest, complete.
std::string small() {
  return R"({"schema": 1, "edgefer": "0.1.0", "created": "2026-01-01T00:00:00+00:00",
    "engine": {"file": "x.onnx", "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "bytes": 3},
    "model_sha256": "", "weights_sha256": "", "target": "cpu", "runtime": {"name": "openvino", "version": "2026.4.1"},
    "instruction_set": ["avx2"],
    "contract": {"labels": ["sad", "glücklich"], "height": 1, "width": 2, "channels": 1,
      "normalisation": {"scale": 1, "mean": [0], "std": [1]}, "architecture": "tiny", "crop_margin": 0.1, "lineage": {}},
    "precision": {"asked": "int8", "got": "fp32", "layers": [{"layer": "a", "op": "Conv", "asked": "int8", "got": "int8"}]},
    "calibration": null,
    "golden": {"shape": [1, 1, 2, 1], "faces": "AP8=", "logits": [[0.5, -1]], "tolerance": {"openvino": 0.001}},
    "candidates": [], "later": "a key of a newer edgefer"})";
}

void refused(const std::string& changes, const char* why) {
  CAPTURE(changes);
  CHECK_THROWS_WITH_AS(Manifest::parse(vectors::changed(small(), changes), "x.onnx.json"), doctest::Contains(why),
                       Error);
}

}  // namespace

TEST_SUITE_BEGIN("manifest");

TEST_CASE("SHA-256 of the standard's examples") {
  CHECK(edgefer::sha256("abc", 3) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(edgefer::sha256("", 0) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  const std::string two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  CHECK(edgefer::sha256(two.data(), two.size()) == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  const vectors::Scratch scratch;
  vectors::write(scratch / "million", std::string(1000000, 'a'));
  CHECK(edgefer::sha256_file(scratch / "million") ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  CHECK_THROWS_WITH_AS(edgefer::sha256_file(scratch / "none"), doctest::Contains("cannot be read"), Error);
}

TEST_CASE("base64") {
  CHECK(edgefer::base64_decode("AP8=") == std::vector<std::uint8_t>{0, 255});
  CHECK(edgefer::base64_decode("Zm9vYmFy").size() == 6);
  CHECK(edgefer::base64_decode("").empty());
  for (const char* text : {"A", "AP8", "AP=8", "A===", "====", "AP8\n"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(edgefer::base64_decode(text), std::invalid_argument);
  }
}

TEST_CASE("a manifest as Python writes it") {
  const Manifest manifest = Manifest::parse(small(), "x.onnx.json");
  CHECK(manifest.contract.labels == std::vector<std::string>{"sad", "glücklich"});
  CHECK(manifest.contract.face_bytes() == 2);
  CHECK(manifest.contract.crop_margin == 0.1);
  CHECK(manifest.runtime == "openvino");
  CHECK(manifest.has_int8);
  CHECK(manifest.golden.faces == std::vector<std::uint8_t>{0, 255});
  CHECK(manifest.golden.logits == std::vector<float>{0.5F, -1.0F});
  CHECK(manifest.golden.tolerance.at("openvino") == 0.001);
  CHECK(manifest.device.empty());
}

TEST_CASE("what a manifest must not say") {
  refused(R"({"schema": 2})", "made by a newer edgefer: its schema is 2, this library reads up to 1");
  refused(R"({"schema": "1"})", "'schema' is not a whole number");
  refused(R"({"runtime": null})", "it lacks 'runtime'");
  refused(R"({"engine": {"sha256": null}})", "it lacks 'sha256'");
  refused(R"({"contract": {"labels": ["a", "a"]}})", "'labels' is not two or more different texts");
  refused(R"({"contract": {"channels": 2}})", "'channels' is not 1 (grey) or 3 (RGB)");
  refused(R"({"contract": {"height": 999999999999}})", "'height' is not a number in its range");
  refused(R"({"contract": {"height": 2}})", "'shape' is not the contract's");
  refused(R"({"golden": {"faces": "AP8A"}})", "'faces' is not of their shape");
  refused(R"({"golden": {"faces": "A!8="}})", "a character that base64 does not have");
  refused(R"({"golden": {"logits": [[1]]}})", "'logits' is not a value for each label");
  refused(R"({"golden": {"logits": [[1, 1e300]]}})", "golden logits are finite");
  refused(R"({"golden": {"tolerance": {"openvino": 1}}})", "tolerances between 0 and 1");
  CHECK_THROWS_WITH_AS(Manifest::parse("{", "x.json"), doctest::Contains("the manifest x.json cannot be read"), Error);
  CHECK_THROWS_WITH_AS(Manifest::parse("[]", "x.json"), doctest::Contains("it lacks 'schema'"), Error);
  CHECK_THROWS_AS(Manifest::parse("{\"schema\": \"\xFF\"}", "x.json"), Error);
  CHECK_THROWS_AS(Manifest::parse(std::string(200000, '['), "x.json"), Error);
}

TEST_CASE("a manifest beside its engine") {
  const vectors::Scratch scratch;
  const auto engine = scratch / "x.onnx";
  vectors::write(engine, "abc");
  CHECK_THROWS_WITH_AS(Manifest::beside(engine), doctest::Contains("has no manifest"), Error);
  vectors::write(edgefer::manifest_path(engine), small());
  const Manifest manifest = Manifest::beside(engine);
  CHECK(manifest.verify(engine) == engine);
  vectors::write(engine, "abd");
  CHECK_THROWS_WITH_AS(manifest.verify(engine), doctest::Contains("is not the engine its manifest describes"), Error);
  std::filesystem::path staged = engine;
  staged += "." + manifest.engine_sha256.substr(0, 8);
  vectors::write(staged, "abd");
  CHECK_THROWS_AS(static_cast<void>(manifest.verify(engine)), Error);
  vectors::write(staged, "abc");  // the build was cut off before its last step
  CHECK(manifest.verify(engine) == staged);
  std::filesystem::remove(engine);
  CHECK(manifest.verify(engine) == staged);
  CHECK_THROWS_WITH_AS(manifest.verify(scratch / "y.onnx"), doctest::Contains("there is no engine"), Error);
  CHECK_THROWS_WITH_AS(manifest.verify(engine.parent_path()), doctest::Contains("there is no engine"), Error);
}

TEST_CASE("whatever a manifest says, it is read or refused") {
  std::size_t read = 0, refused = 0;
  const auto attempt = [&](const std::string& text) {
    try {
      read += Manifest::parse(text, "x").golden.count > 0 ? 1 : 0;
    } catch (const Error&) {
      ++refused;
    }
  };
  for (const std::string& text : vectors::spoilt(small())) attempt(text);
  const std::string whole = small();
  for (std::size_t length = 0; length < whole.size(); ++length) attempt(whole.substr(0, length));
  std::uint32_t state = 7;
  const auto random = [&state] { return (state = 1664525 * state + 1013904223) >> 8; };
  for (int round = 0; round < 4000; ++round) {
    std::string text = whole;
    for (std::uint32_t change = 0; change <= random() % 4; ++change) {
      text[random() % text.size()] = static_cast<char>(random() & 0xFF);
    }
    attempt(text);
  }
  CHECK(read > 100);
  CHECK(refused > 3000);
}

TEST_CASE("processors that saturate") {
  const auto old = edgefer::instruction_set("processor : 0\nflags\t\t: fpu sse4_1 avx avx2 fma\nflags : amx_int8\n");
  CHECK(old == std::vector<std::string>{"sse4_1", "avx", "avx2", "fma"});
  CHECK(edgefer::saturates(old));
  CHECK_FALSE(edgefer::saturates(edgefer::instruction_set("flags : avx2 avx512_vnni\n")));
  const auto arm = edgefer::instruction_set("Features\t: fp asimd asimddp\n");
  CHECK(arm == std::vector<std::string>{"asimd", "asimddp"});
  CHECK_FALSE(edgefer::saturates(arm));
  CHECK(edgefer::instruction_set("").empty());

  edgefer::set_announcer({});
  Manifest manifest = Manifest::parse(small(), "x.onnx.json");
  const auto check = [&](const std::vector<std::string>& built, const std::vector<std::string>& here) {
    manifest.instruction_set = built;
    edgefer::check_instructions("x.onnx", manifest, here);
  };
  const std::vector<std::string> plain = {"avx2"}, exact = {"avx2", "avx_vnni"};
  CHECK_THROWS_WITH_AS(check(exact, plain), doctest::Contains("its uint8×int8 sums would saturate"), Error);
  CHECK_THROWS_WITH_AS(check(arm, plain), doctest::Contains("made on a CPU with asimd asimddp"), Error);
  check(plain, exact);
  check(plain, {"avx2", "fma"});
  check(exact, arm);
  manifest.has_int8 = false;
  check(exact, plain);
}

TEST_SUITE_END();
