#include "arguments.hpp"

#include <cstdio>
#include <filesystem>

#include "command_line.hpp"
#include "edgefer/manifest.hpp"
#include "notices.hpp"

namespace edgefer::app {
namespace {

constexpr int kAny = 1'000'000'000;

cv::Size parse_size(const std::string& text) {
  int width = 0, height = 0;
  char more = 0;
  if (std::sscanf(text.c_str(), "%dx%d%c", &width, &height, &more) != 2 || width < 1 || height < 1) {
    throw Error("--size '" + text + "' is no size", "--size 1280x720");
  }
  return {width, height};
}

Smoothing::Kind parse_smoothing(const std::string& text) {
  if (text == "ema") return Smoothing::Kind::ema;
  if (text == "majority") return Smoothing::Kind::majority;
  if (text == "none") return Smoothing::Kind::none;
  throw Error("there is no smoothing '" + text + "'", "--smooth ema, majority or none");
}

void add_source(CommandLine& line, Arguments& found) {
  line.value("--source", "SOURCE",
             "Webcam number, film, picture, folder of pictures, frames/%04d.png, rtsp://, http://,\n"
             "                            csi://0, or a GStreamer pipeline. [0]",
             [&](const std::string& text) { found.source = text; });
  line.value("--size", "WxH", "Ask a camera for this size.",
             [&](const std::string& text) { found.source_wishes.size = parse_size(text); });
  line.whole("--rotate", "DEGREES", "Clockwise: 90, 180 or 270. [0]", -kAny, kAny,
             [&](int degrees) { found.options.rotate = degrees; });
  line.flag("--mirror", "Swap left and right, as in a mirror.", [&](bool on) { found.options.mirror = on; });
  line.number("--patience", "SECONDS", "How long to try to reconnect. [30]", 0, kAny,
              [&](double seconds) { found.source_wishes.patience = seconds; });
  line.flag("--realtime", "Play a file at its own speed, dropping frames like a camera.",
            [&](bool on) { found.options.realtime = on; });
  line.flag("--every-frame", "Drop no frame, of a camera either: wait instead.",
            [&](bool on) { found.options.every_frame = on; });
  line.number("--seconds", "SECONDS", "Stop after so many; of --bench: how long to time the engine.", 0.1, kAny,
              [&](double seconds) { found.options.seconds = seconds; });
}

void add_finding(CommandLine& line, Arguments& found) {
  line.value("--detector", "haar|yunet|FILE", "haar comes with OpenCV; yunet is better and faster. [haar]",
             [&](const std::string& text) { found.detector = text; });
  line.value("--boxes", "FILE", "Take faces from a file instead, as --events writes it.",
             [&](const std::string& text) { found.boxes = text; });
  line.number("--smallest-face", "PIXELS", "Width of the smallest face to find; larger is faster. [60]", 10, kAny,
              [&](double pixels) { found.detector_wishes.smallest = pixels; });
  line.flag(
      "--level", "Turn tilted faces upright (YuNet). [level]", [&](bool on) { found.options.level = on; }, true);
  line.whole("--detect-every", "FRAMES", "From search to search. [3]", 1, kAny,
             [&](int n) { found.options.every = n; });
  line.whole("--most-faces", "COUNT", "Label the largest. [32]", 1, kAny, [&](int n) { found.options.most_faces = n; });
  line.value("--smooth", "ema|majority|none", "Calm labels. [ema]",
             [&](const std::string& text) { found.options.smoothing.kind = parse_smoothing(text); });
  line.number("--smooth-seconds", "SECONDS", "Of ema: its time constant. [0.4]", 1e-6, kAny,
              [&](double seconds) { found.options.smoothing.seconds = seconds; });
  line.number("--unsure-under", "SHARE", "No label below this probability. [0.4]", 0, 1,
              [&](double share) { found.options.smoothing.unsure_under = share; });
}

void add_results(CommandLine& line, Arguments& found) {
  line.flag(
      "--window", "Show a window. [if there is a display]", [&](bool on) { found.window = on; }, true);
  line.value("--video", "FILE.mp4", "Write a film with boxes and labels.",
             [&](const std::string& text) { found.video = text; });
  line.value("--events", "FILE", "Write a line of JSON a face and frame; - for stdout.",
             [&](const std::string& text) { found.events = text; });
  line.whole("--serve", "PORT", "Stream MJPEG over HTTP.", 0, 65535, [&](int port) { found.serve = port; });
  line.value("--host", "HOST", "Of --serve; 0.0.0.0 for all networks. [127.0.0.1]",
             [&](const std::string& text) { found.host = text; });
  line.whole("--threads", "COUNT", "Of each network and of OpenCV. [1]", 1, 1024,
             [&](int count) { found.threads = count; });
  line.flag("--bench", "Time the engine, and the app on --source; JSON on stdout.", [&](bool on) { found.bench = on; });
  line.flag("--version", "Say what this is and what it was built with.", [&](bool on) { found.version = on; });
  line.flag("--help", "This.", [&](bool on) { found.help = on; });
}

CommandLine table(Arguments& found) {
  CommandLine line;
  add_source(line, found);
  add_finding(line, found);
  add_results(line, found);
  return line;
}

/// Opening a file of results empties it: it may be none of those that this run reads.
void check_overwriting(const Arguments& found) {
  const std::string source = found.source.value_or(""), boxes = found.boxes.value_or("");
  const std::string manifest = manifest_path(found.engine).string();
  for (const auto& written : {found.video, found.events}) {
    for (const std::string& read : {source, boxes, found.engine, manifest, found.detector}) {
      std::error_code not_there;
      if (written && std::filesystem::equivalent(*written, read, not_there)) {
        throw Error(*written + " is read, and would be overwritten", "write to another file");
      }
    }
  }
}

/// What would be accepted and have no effect.
void check_pointless(const Arguments& found) {
  if (!found.serve && found.host != "127.0.0.1") {
    throw Error("--host " + found.host + " is of --serve, which is not given", "--serve 8080 --host " + found.host);
  }
  if (found.boxes && found.detector != "haar") {
    throw Error("--boxes takes faces from a file, and --detector " + found.detector + " would search for them",
                "leave one of the two out");
  }
  if (found.bench && !found.source &&
      (found.boxes || found.video || found.events || found.serve || found.window.value_or(false))) {
    throw Error("--bench without --source times the engine alone: it sees no picture and writes none",
                "--source FILM times the app too");
  }
}

void check(const Arguments& found) {
  const int rotate = found.options.rotate;
  if (rotate != 0 && rotate != 90 && rotate != 180 && rotate != 270) {
    throw Error("pictures cannot be rotated by " + std::to_string(rotate) + "°", "--rotate 0, 90, 180 or 270");
  }
  if (found.options.realtime && found.options.every_frame) {
    throw Error("--realtime drops frames and --every-frame drops none", "leave one of the two out");
  }
  if (found.bench && found.events == "-") {
    throw Error("--bench and --events - both write to stdout", "--events FILE.jsonl");
  }
  check_pointless(found);
  check_overwriting(found);
}

}  // namespace

Arguments parse_arguments(const std::vector<std::string>& arguments) {
  Arguments found;
  const auto engines = table(found).parse(arguments);
  if (found.help || found.version) return found;
  if (engines.empty())
    throw Error("no engine was given", "edgefer_camera ENGINE.onnx --source 0; --help lists the options");
  if (engines.size() > 1) throw Error("'" + engines[1] + "' is one engine too many", "edgefer_camera takes one");
  found.engine = engines.front();
  found.detector_wishes.threads = found.threads;
  check(found);
  return found;
}

std::string help_page() {
  Arguments unused;
  return "edgefer_camera ENGINE [options]\n\n"
         "Label faces of a camera, stream, film or folder with ENGINE (.onnx or .engine, its manifest beside it).\n"
         "Ends with the source, q in its window, or Ctrl-C.\n\n" +
         table(unused).help();
}

}  // namespace edgefer::app
