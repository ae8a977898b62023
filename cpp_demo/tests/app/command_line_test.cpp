#include "arguments.hpp"
#include "support.hpp"

using edgefer::app::parse_arguments;
using support::contains;

namespace {

std::string fault(const std::vector<std::string>& arguments) {
  return support::refusal([&] { parse_arguments(arguments); });
}

}  // namespace

TEST_CASE("options are taken as the Python app names them") {
  const auto found = parse_arguments({"--source",    "rtsp://camera/1",
                                      "x.onnx",      "--size=1280x720",
                                      "--rotate",    "90",
                                      "--mirror",    "--no-level",
                                      "--smooth",    "majority",
                                      "--serve",     "0",
                                      "--no-window", "--seconds",
                                      "1.5",         "--detect-every",
                                      "5",           "--min-confidence=0.3",
                                      "--threads",   "2"});
  CHECK(found.engine == "x.onnx");
  CHECK(found.source == "rtsp://camera/1");
  CHECK(found.source_options.size == cv::Size(1280, 720));
  CHECK(found.options.rotate == 90);
  CHECK(found.options.mirror);
  CHECK_FALSE(found.options.level);
  CHECK(found.options.smoothing.kind == edgefer::Smoothing::Kind::majority);
  CHECK(found.serve == 0);
  CHECK(found.window == false);
  CHECK(found.options.seconds == 1.5);
  CHECK(found.options.every == 5);
  CHECK(found.options.smoothing.min_confidence == 0.3);
  CHECK(found.detector_options.threads == 2);
}

TEST_CASE("nothing asked for is what Python does") {
  const auto found = parse_arguments({"x.onnx"});
  CHECK_FALSE(found.source);
  CHECK_FALSE(found.window);
  CHECK(found.detector == "haar");
  CHECK(found.options.every == 3);
  CHECK(found.options.max_faces == 32);
  CHECK(found.options.smoothing.seconds == 0.4);
  CHECK(found.source_options.patience == 30);
  CHECK(found.host == "127.0.0.1");
}

TEST_CASE("what makes no sense is refused by name and value") {
  CHECK(contains(fault({}), "no engine"));
  CHECK(contains(fault({"a.onnx", "b.onnx"}), "'b.onnx' is one engine too many"));
  CHECK(contains(fault({"x.onnx", "--sauce", "0"}), "no option '--sauce'"));
  CHECK(contains(fault({"x.onnx", "--source"}), "--source needs a value"));
  CHECK(contains(fault({"x.onnx", "--size", "12"}), "'12' is no size"));
  CHECK(contains(fault({"x.onnx", "--rotate", "45"}), "rotated by 45°"));
  CHECK(contains(fault({"x.onnx", "--detect-every", "0"}), "--detect-every 0 is out of range"));
  CHECK(contains(fault({"x.onnx", "--detect-every", "2.5"}), "whole number, not '2.5'"));
  CHECK(contains(fault({"x.onnx", "--patience", "soon"}), "number, not 'soon'"));
  CHECK(contains(fault({"x.onnx", "--patience", "nan"}), "number, not 'nan'"));
  CHECK(contains(fault({"x.onnx", "--serve", "70000"}), "--serve 70000 is out of range"));
  CHECK(contains(fault({"x.onnx", "--smooth", "much"}), "no smoothing 'much'"));
  CHECK(contains(fault({"x.onnx", "--mirror=yes"}), "--mirror takes no value"));
  CHECK(contains(fault({"x.onnx", "--realtime", "--every-frame"}), "--every-frame drops none"));
  CHECK(contains(fault({"x.onnx", "--bench", "--events", "-"}), "both write to stdout"));
}

TEST_CASE("what would have no effect is refused, not ignored") {
  CHECK(contains(fault({"x.onnx", "--host", "0.0.0.0"}), "--host 0.0.0.0 is of --serve"));
  CHECK(contains(fault({"x.onnx", "--boxes", "b", "--detector", "yunet"}), "--detector yunet would search for them"));
  CHECK(contains(fault({"x.onnx", "--bench", "--video", "out.mp4"}), "times the engine alone"));
  CHECK(parse_arguments({"x.onnx", "--bench", "--source", "0", "--video", "out.mp4"}).bench);
}

TEST_CASE("what is read is never written over") {
  const support::Folder folder;
  const std::string video = folder.path / "video.mp4", engine = folder.path / "x.onnx", boxes = folder.path / "b.jsonl";
  const std::string manifest = engine + ".json", other = folder.path / "." / "video.mp4";
  for (const auto& path : {video, engine, boxes, manifest}) support::write(path, "precious");
  const auto refused = [&](const std::string& option, const std::string& written) {
    CHECK(contains(fault({engine, "--source", video, "--boxes", boxes, option, written}), "would be overwritten"));
  };
  refused("--events", video);
  refused("--video", other);
  refused("--events", boxes);
  refused("--events", engine);
  refused("--events", manifest);
  CHECK(parse_arguments({engine, "--source", video, "--events", folder.path / "new.jsonl"}).events);
}

TEST_CASE("the help page names every option once and fits a terminal") {
  const std::string page = parse_arguments({"--help"}).help.value();
  CHECK(parse_arguments({"x.onnx", "-h"}).help == page);
  for (const auto* option : {"--source", "--every-frame", "--boxes", "--no-window", "--bench", "--events"}) {
    CHECK(contains(page, option));
  }
  std::stringstream lines(page);
  for (std::string line; std::getline(lines, line);) CHECK(line.size() <= 80);
}

TEST_CASE("a misspelt option says what was meant") {
  CHECK(contains(fault({"x.onnx", "--sorce", "0"}), "did you mean --source?"));
  CHECK(contains(fault({"x.onnx", "--no-windo"}), "did you mean --no-window?"));
  CHECK(contains(fault({"--sorce=a", "x.onnx"}), "there is no option '--sorce'"));
  CHECK_FALSE(contains(fault({"x.onnx", "-v"}), "did you mean"));
}

TEST_CASE("of an option that is repeated, the last counts, and a value may begin with a dash") {
  CHECK(parse_arguments({"x.onnx", "--source", "a", "--source", "b"}).source == "b");
  CHECK(parse_arguments({"x.onnx", "--no-window", "--window"}).window == true);
  CHECK(parse_arguments({"x.onnx", "--level", "--no-level"}).options.level == false);
  CHECK(parse_arguments({"x.onnx", "--events", "-"}).events == "-");
  CHECK(parse_arguments({"x.onnx", "--source", "a b ! [c]"}).source == "a b ! [c]");
  CHECK(contains(fault({"x.onnx", "--detect-every", "-1"}), "--detect-every -1 is out of range"));
}
