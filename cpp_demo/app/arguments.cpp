#include "arguments.hpp"

#include <cstdio>
#include <filesystem>

#include "../tools/command_line.hpp"
#include "edgefer/manifest.hpp"
#include "notices.hpp"

namespace edgefer::app {
namespace {

using namespace command_line;

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

int parse_rotation(const std::string& text) {
  for (const int degrees : {0, 90, 180, 270}) {
    if (text == std::to_string(degrees)) return degrees;
  }
  throw Error("pictures cannot be rotated by " + text + "°", "--rotate 0, 90, 180 or 270");
}

void add_source(CLI::App& app, Arguments& found) {
  app.option_defaults()->group("Source");
  add_text(app, "--source", "WHAT", found.source,
           "Webcam number, video, picture, folder of pictures,\nframes/%04d.png, rtsp://, http://, csi://0, or a\n"
           "GStreamer pipeline. [default: 0]");
  app.add_option_function<std::string>(
         "--size", [&](const std::string& text) { found.source_options.size = parse_size(text); },
         "Ask the camera for this size.")
      ->type_name("WxH");
  app.add_option_function<std::string>(
         "--rotate", [&](const std::string& text) { found.options.rotate = parse_rotation(text); },
         "Rotate clockwise by 90, 180 or 270 degrees.\n[default: 0]")
      ->type_name("N");
  add_flag(app, "--mirror", found.options.mirror, "Swap left and right, as in a mirror.");
  add_number(app, "--patience", "X", found.source_options.patience, 0, kUnbounded,
             "Seconds to reconnect. [default: 30]");
  add_flag(app, "--realtime", found.options.realtime,
           "Play a file at its own speed, dropping frames as a\ncamera would.");
  add_flag(app, "--every-frame", found.options.every_frame,
           "Drop no frames, of a camera either: slow stages\nhold the source up.");
  add_number(app, "--seconds", "X", found.options.seconds, 0.1, kUnbounded,
             "Stop after X seconds; with --bench, time the\nengine for X seconds.");
}

void add_faces(CLI::App& app, Arguments& found) {
  app.option_defaults()->group("Finding faces");
  add_text(app, "--detector", "haar|yunet|FILE", found.detector,
           "haar comes with OpenCV; yunet is better and\nfaster; or a YuNet file. [default: haar]");
  add_text(app, "--boxes", "FILE", found.boxes,
           "Take faces from this file, which --events wrote,\ninstead of a detector.");
  add_number(app, "--smallest-face", "PIXELS", found.detector_options.smallest, 10, kUnbounded,
             "Width of the smallest face to find; a larger value\nis faster. [default: 60]");
  add_flag(app, "--level,!--no-level", found.options.level, "Rotate tilted faces upright (YuNet).\n[default: level]");
  add_number(app, "--detect-every", "N", found.options.every, 1, kUnbounded,
             "Look for new faces in every Nth frame.\n[default: 3]");
  add_number(app, "--max-faces", "N", found.options.max_faces, 1, kUnbounded, "Label N faces at most. [default: 32]");
}

void add_labels(CLI::App& app, Arguments& found) {
  app.option_defaults()->group("Labels");
  app.add_option_function<std::string>(
         "--smooth", [&](const std::string& text) { found.options.smoothing.kind = parse_smoothing(text); },
         "How labels are smoothed over time. [default: ema]")
      ->type_name("ema|majority|none");
  add_number(app, "--smooth-seconds", "X", found.options.smoothing.seconds, 1e-6, kUnbounded,
             "Time constant of ema, in seconds. [default: 0.4]");
  add_number(app, "--min-confidence", "X", found.options.smoothing.min_confidence, 0, 1,
             "Show no label below this probability.\n[default: 0.4]");
}

void add_output(CLI::App& app, Arguments& found) {
  app.option_defaults()->group("Output");
  add_flag(app, "--window,!--no-window", found.window, "Show a window. [default: if there is a display]");
  add_text(app, "--video", "FILE", found.video, "Write an mp4 with boxes and labels.");
  add_text(app, "--events", "FILE", found.events, "Write one line of JSON per face and frame; - is\nstdout.");
  add_number(app, "--serve", "PORT", found.serve, 0, 65535, "Stream MJPEG over HTTP.");
  add_text(app, "--host", "HOST", found.host, "Address for --serve; 0.0.0.0 opens it to all.\n[default: 127.0.0.1]");
  add_flag(app, "--bench", found.bench, "Time the engine, and the app on --source; write\nJSON to stdout.");
}

void add_others(CLI::App& app, Arguments& found) {
  app.option_defaults()->group("Other options");
  add_number(app, "--threads", "N", found.threads, 1, 1024, "Threads that each network and OpenCV use.\n[default: 1]");
  add_flag(app, "--version", found.version, "Show the version and the runtimes, and exit.");
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
                "--source VIDEO times the app too");
  }
}

void check(const Arguments& found) {
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
  CLI::App app(
      "Label the faces of a camera, stream, video or folder.\n\n"
      "ENGINE is an .onnx or .engine file with its manifest beside it. The program\n"
      "ends with its source, on q in its window, or on Ctrl-C.",
      "edgefer_camera");
  command_line::prepare(app);
  app.add_option("ENGINE", found.engine, "Engine file, such as model.int8.onnx.");
  add_source(app, found);
  add_faces(app, found);
  add_labels(app, found);
  add_output(app, found);
  add_others(app, found);
  app.footer(
      "Examples:\n"
      "  edgefer_camera model.int8.onnx --source in.mp4 --video out.mp4\n"
      "  edgefer_camera face.engine --source csi://0 --serve 8080");
  found.help = command_line::parse(app, arguments, "engine");
  if (found.help || found.version) return found;
  if (found.engine.empty()) {
    throw Error("no engine was given", "edgefer_camera ENGINE.onnx --source 0; --help lists the options");
  }
  found.detector_options.threads = found.threads;
  check(found);
  return found;
}

}  // namespace edgefer::app
