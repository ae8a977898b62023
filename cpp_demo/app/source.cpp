#include "source.hpp"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <regex>
#include <vector>

#include <opencv2/videoio.hpp>
#include <opencv2/videoio/registry.hpp>

#include "capture.hpp"
#include "devices.hpp"
#include "pictures.hpp"

namespace edgefer::app {
namespace fs = std::filesystem;

namespace {

constexpr int kOpenMilliseconds = 5000;

bool is_number(const std::string& text) {
  return !text.empty() && text.size() <= 6 &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
}

bool begins(const std::string& text, const std::string& with) { return text.rfind(with, 0) == 0; }

/// Of `0`, `/dev/video0` and of links to it, as under /dev/v4l/by-id; −1 of anything else.
int webcam_index(const std::string& text) {
  std::error_code fault;
  const std::string target = begins(text, "/dev/") ? fs::canonical(text, fault).string() : text;
  const std::string device = fault ? text : target;  // no_camera() says more of one that is not there
  const std::string number = begins(device, "/dev/video") ? device.substr(10) : device;
  return is_number(number) ? std::stoi(number) : -1;
}

std::unique_ptr<Source> webcam(int index, const SourceWishes& wishes) {
  const auto open = [index, size = wishes.size] {
    cv::VideoCapture capture(index, cv::CAP_V4L2);
    if (size) {
      capture.set(cv::CAP_PROP_FRAME_WIDTH, size->width);
      capture.set(cv::CAP_PROP_FRAME_HEIGHT, size->height);
    }
    capture.set(cv::CAP_PROP_BUFFERSIZE, 1);  // the newest frame, where the driver honours it
    return capture;
  };
  const auto refusal = [index] { return no_camera(index); };
  return std::make_unique<CaptureSource>(open, "camera " + std::to_string(index), true, refusal, wishes.patience);
}

std::unique_ptr<Source> gstreamer(const std::string& pipeline, const std::string& name, const SourceWishes& wishes) {
  check_gstreamer(pipeline, name);
  const auto open = [pipeline] { return cv::VideoCapture(pipeline, cv::CAP_GSTREAMER); };
  const auto refusal = [pipeline, name] {
    return Error(name + " does not open: " + without_password(pipeline),
                 "try the same pipeline with gst-launch-1.0, with fakesink at its end");
  };
  return std::make_unique<CaptureSource>(open, name, true, refusal, wishes.patience);
}

std::unique_ptr<Source> stream(const std::string& url, const SourceWishes& wishes) {
  const std::string name = without_password(url);
  const std::vector<int> waits{cv::CAP_PROP_OPEN_TIMEOUT_MSEC, kOpenMilliseconds,  //
                               cv::CAP_PROP_READ_TIMEOUT_MSEC, kOpenMilliseconds};
  const auto open = [url, waits] { return cv::VideoCapture(url, cv::CAP_FFMPEG, waits); };
  const auto refusal = [name] {
    return Error("nothing answers at " + name + ", or it is no video stream",
                 "check address, port and password; try it in VLC");
  };
  const auto live = begins(url, "http") ? std::nullopt : std::optional(true);  // a film on a web server has an end
  return std::make_unique<CaptureSource>(open, name, live, refusal, wishes.patience);
}

/// FFmpeg where OpenCV has it: it knows more films than the others, and is quiet about what is none.
int film_backend() {
  const auto backends = cv::videoio_registry::getStreamBackends();
  const bool has_it = std::find(backends.begin(), backends.end(), cv::CAP_FFMPEG) != backends.end();
  return has_it ? cv::CAP_FFMPEG : cv::CAP_ANY;
}

std::unique_ptr<Source> film(const fs::path& path) {
  const auto open = [path] { return cv::VideoCapture(path.string(), film_backend()); };
  const auto refusal = [path] {
    std::error_code fault;
    const bool empty = fs::file_size(path, fault) == 0 && !fault;
    return Error(path.string() + (empty ? " is empty" : " is not a video that OpenCV can read"),
                 "give an mp4, avi, mkv or webm file; `ffmpeg -i FILE out.mp4` converts others");
  };
  return std::make_unique<CaptureSource>(open, path.string(), false, refusal, 0.0);
}

}  // namespace

std::unique_ptr<Source> open_source(const std::string& text, const SourceWishes& wishes) {
  if (const int index = webcam_index(text); index >= 0) return webcam(index, wishes);
  if (begins(text, "csi://")) {
    if (!is_number(text.substr(6))) throw Error("'" + text + "' is no camera port", "csi://0 is the first");
    const auto pipeline = csi_pipeline(std::stoi(text.substr(6)), wishes.size.value_or(cv::Size(1280, 720)));
    return gstreamer(pipeline, text, wishes);
  }
  if (wishes.size) {
    throw Error("--size asks a camera for its size, and " + without_password(text) + " is none that can be asked",
                "leave it out; a GStreamer pipeline states its size in its caps");
  }
  if (text.find(" ! ") != std::string::npos) return gstreamer(text, "the GStreamer pipeline", wishes);
  static const std::regex kStream("(rtsps?|rtmp|https?|udp|tcp)://.*");
  if (std::regex_match(text, kStream)) return stream(text, wishes);
  const fs::path path(text);
  if (fs::is_directory(path)) return open_pictures(path);
  if (is_sequence(text) && !fs::exists(path)) return open_sequence(text);
  if (is_picture(path)) return open_pictures(path);
  if (fs::is_regular_file(path)) return film(path);
  throw Error("there is no source '" + text + "'",
              "give a webcam's number (0), a video or picture file, a folder of pictures, frames/%04d.png, rtsp://… or "
              "http://…, csi://0, or a GStreamer pipeline");
}

std::string csi_pipeline(int sensor, cv::Size size) {
  // Elements and caps as in NVIDIA's Accelerated GStreamer guide; drop and max-buffers keep the newest frame.
  return "nvarguscamerasrc sensor-id=" + std::to_string(sensor) +
         " ! video/x-raw(memory:NVMM),width=" + std::to_string(size.width) + ",height=" + std::to_string(size.height) +
         ",format=NV12 ! nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! "
         "appsink drop=true max-buffers=1 sync=false";
}

std::string without_password(const std::string& url) {
  static const std::regex kPassword("(://[^/@:\\s]*):[^/\\s]*@"), kToken("(://[^\\s\"'?]*\\?|user-pw=)[^\\s\"']+");
  return std::regex_replace(std::regex_replace(url, kPassword, "$1:…@"), kToken, "$1…");
}

}  // namespace edgefer::app
