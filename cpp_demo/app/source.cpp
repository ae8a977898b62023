#include "source.hpp"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <regex>
#include <utility>
#include <vector>

#include <dlfcn.h>
#include <opencv2/videoio.hpp>
#include <opencv2/videoio/registry.hpp>

#include "frame.hpp"

namespace edgefer::app {
namespace fs = std::filesystem;

namespace {

constexpr int kOpenMilliseconds = 5000;
constexpr auto kCloseTime = std::chrono::milliseconds(200);
constexpr int kEmptyInARow = 30;
constexpr double kFirstPause = 0.25;
constexpr double kLongestPause = 4.0;

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

/// What a CaptureSource is made of.
struct Capture {
  std::string name;
  std::function<cv::VideoCapture()> open;  ///< opens the device, and opens it anew to reconnect
  std::function<Error()> refusal;          ///< why it did not open
  std::optional<bool> live;                ///< if absent: where the source states no length
  double patience;                         ///< seconds for which it is tried again
};

/// A live source that stops is tried again for some seconds; a video that stops has ended.
class CaptureSource final : public Source {
 public:
  /// Throws what `refusal` returns if it does not open.
  explicit CaptureSource(const Capture& how) : CaptureSource(how, how.open()) {}

  std::optional<cv::Mat> read() override {
    // Frames without pixels are skipped; many in a row count as a source that stopped.
    for (int turn = 0; turn < kEmptyInARow; ++turn) {
      if (closed_within(0.0)) return std::nullopt;
      const auto pixels = grab();
      if (!pixels) break;
      if (!pixels->empty()) {
        ++frames_;
        return to_bgr(*pixels, name);
      }
    }
    if (closed_within(0.0)) return std::nullopt;
    if (live) return reconnected();
    check_end();
    return std::nullopt;
  }

  void close() override {
    {
      const std::lock_guard lock(waiting_);
      closed_ = true;
    }
    woken_.notify_all();
    if (busy_.try_lock_for(kCloseTime)) {
      capture_.release();
      busy_.unlock();
    }
  }

 private:
  CaptureSource(const Capture& how, cv::VideoCapture capture)
      : Source(how.name, how.live.value_or(capture.get(cv::CAP_PROP_FRAME_COUNT) < 1), false),
        how_(how),
        capture_(std::move(capture)) {
    if (!capture_.isOpened()) throw how_.refusal();
    const double stated = capture_.get(cv::CAP_PROP_FPS);
    if (stated >= 1.0 && stated <= 240.0) fps = stated;
    if (!live) expected_ = static_cast<long>(capture_.get(cv::CAP_PROP_FRAME_COUNT));
  }

  std::optional<cv::Mat> grab() {
    cv::Mat pixels;  // a new one per frame: the last is still on its way through the app
    try {
      const std::lock_guard lock(busy_);
      if (!capture_.read(pixels)) return std::nullopt;
    } catch (const cv::Exception&) {  // some drivers raise when a device is unplugged
      return std::nullopt;
    }
    return pixels;
  }

  void check_end() const {
    if (frames_ == 0) throw how_.refusal();
    if (expected_ > 0 && static_cast<double>(frames_) < 0.9 * static_cast<double>(expected_)) {
      announce("note: " + name + " ended after " + std::to_string(frames_) + " of " + std::to_string(expected_) +
               " frames: it may be cut short");
    }
  }

  std::optional<cv::Mat> reconnected() {
    announce(name + " gives no more frames: trying again for " + shortest(how_.patience) + " s");
    const double until = monotonic() + how_.patience;
    for (double pause = kFirstPause; monotonic() < until; pause = std::min(2 * pause, kLongestPause)) {
      if (closed_within(std::min(pause, std::max(0.0, until - monotonic())))) return std::nullopt;
      {
        const std::lock_guard lock(busy_);
        capture_.release();
        capture_ = how_.open();
      }
      const auto pixels = capture_.isOpened() ? grab() : std::nullopt;
      if (pixels && !pixels->empty()) {
        ++reconnects;
        ++frames_;
        announce(name + " is back");
        return to_bgr(*pixels, name);
      }
    }
    if (closed_within(0.0)) return std::nullopt;
    throw Error(name + " stopped after " + std::to_string(frames_) + " frames and did not come back within " +
                    shortest(how_.patience) + " s",
                "check its cable, power and network; --patience SECONDS waits longer");
  }

  bool closed_within(double seconds) {
    std::unique_lock lock(waiting_);
    return woken_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return closed_; });
  }

  const Capture how_;
  std::mutex waiting_;
  std::condition_variable woken_;
  bool closed_ = false;
  std::timed_mutex busy_;  // releasing a device under a thread that reads would crash
  cv::VideoCapture capture_;
  long frames_ = 0;
  long expected_ = 0;
};

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const auto& part : parts) text += (text.empty() ? "" : ", ") + part;
  return text;
}

/// The names of the elements in a pipeline, without caps and references to pads.
std::vector<std::string> elements(const std::string& pipeline) {
  static const std::regex kElement("(?:^|!)\\s*([A-Za-z][A-Za-z0-9_-]*)(?=\\s|!|$)");
  std::vector<std::string> names;
  for (std::sregex_iterator found(pipeline.begin(), pipeline.end(), kElement), end; found != end; ++found) {
    names.push_back((*found)[1]);
  }
  return names;
}

/// The first of `names` that GStreamer does not know; empty if it knows all, or cannot be asked.
std::string unknown_element(const std::vector<std::string>& names) {
  // Asked through the library that OpenCV itself has loaded, so that nothing has to be linked for it.
  void* library = dlopen("libgstreamer-1.0.so.0", RTLD_LAZY);
  if (library == nullptr) return "";
  using Init = int (*)(int*, char***, void**);
  using Find = void* (*)(const char*);
  const auto init = reinterpret_cast<Init>(dlsym(library, "gst_init_check"));
  const auto find = reinterpret_cast<Find>(dlsym(library, "gst_element_factory_find"));
  if (init == nullptr || find == nullptr || init(nullptr, nullptr, nullptr) == 0) return "";
  const auto unknown =
      std::find_if(names.begin(), names.end(), [&](const auto& name) { return find(name.c_str()) == nullptr; });
  return unknown == names.end() ? "" : *unknown;
}

/// Throws Error where this OpenCV was built without GStreamer, or where an element of `pipeline` is not installed:
/// OpenCV would wait for it for ever.
void check_gstreamer(const std::string& pipeline, const std::string& name) {
  const auto backends = cv::videoio_registry::getStreamBackends();
  if (std::find(backends.begin(), backends.end(), cv::CAP_GSTREAMER) == backends.end()) {
    throw Error(name + " needs GStreamer, and this OpenCV was built without it",
                "install the system's OpenCV and gstreamer1.0-plugins-base and -good; a webcam or rtsp:// needs none");
  }
  const std::string unknown = unknown_element(elements(pipeline));
  if (unknown.empty()) return;
  const bool jetson = unknown.rfind("nv", 0) == 0;
  throw Error(name + " needs the GStreamer element '" + unknown + "', which is not installed",
              jetson ? "it comes with JetPack; in a container, use NVIDIA's l4t images with the camera passed through"
                     : "gst-inspect-1.0 lists what there is; gstreamer1.0-plugins-base and -good have the usual ones");
}

std::unique_ptr<Source> webcam(int index, const SourceOptions& options) {
  const auto open = [index, size = options.size] {
    cv::VideoCapture capture(index, cv::CAP_V4L2);
    if (size) {
      capture.set(cv::CAP_PROP_FRAME_WIDTH, size->width);
      capture.set(cv::CAP_PROP_FRAME_HEIGHT, size->height);
    }
    capture.set(cv::CAP_PROP_BUFFERSIZE, 1);  // the newest frame, where the driver honours it
    return capture;
  };
  const auto refusal = [index] { return no_camera(index); };
  return std::make_unique<CaptureSource>(
      Capture{"camera " + std::to_string(index), open, refusal, true, options.patience});
}

std::unique_ptr<Source> gstreamer(const std::string& pipeline, const std::string& name, const SourceOptions& options) {
  check_gstreamer(pipeline, name);
  const auto open = [pipeline] { return cv::VideoCapture(pipeline, cv::CAP_GSTREAMER); };
  const auto refusal = [pipeline, name] {
    return Error(name + " does not open: " + without_password(pipeline),
                 "try the same pipeline with gst-launch-1.0, with fakesink at its end");
  };
  return std::make_unique<CaptureSource>(Capture{name, open, refusal, true, options.patience});
}

std::unique_ptr<Source> stream(const std::string& url, const SourceOptions& options) {
  const std::string name = without_password(url);
  const std::vector<int> waits{cv::CAP_PROP_OPEN_TIMEOUT_MSEC, kOpenMilliseconds,  //
                               cv::CAP_PROP_READ_TIMEOUT_MSEC, kOpenMilliseconds};
  const auto open = [url, waits] { return cv::VideoCapture(url, cv::CAP_FFMPEG, waits); };
  const auto refusal = [name] {
    return Error("nothing answers at " + name + ", or it is no video stream",
                 "check address, port and password; try it in VLC");
  };
  const auto live = begins(url, "http") ? std::nullopt : std::optional(true);  // a video on a web server has an end
  return std::make_unique<CaptureSource>(Capture{name, open, refusal, live, options.patience});
}

/// FFmpeg where OpenCV has it: it knows more videos than the others, and is quiet about what is none.
int video_backend() {
  const auto backends = cv::videoio_registry::getStreamBackends();
  const bool has_it = std::find(backends.begin(), backends.end(), cv::CAP_FFMPEG) != backends.end();
  return has_it ? cv::CAP_FFMPEG : cv::CAP_ANY;
}

std::unique_ptr<Source> video(const fs::path& path) {
  const auto open = [path] { return cv::VideoCapture(path.string(), video_backend()); };
  const auto refusal = [path] {
    std::error_code fault;
    const bool empty = fs::file_size(path, fault) == 0 && !fault;
    return Error(path.string() + (empty ? " is empty" : " is not a video that OpenCV can read"),
                 "give an mp4, avi, mkv or webm file; `ffmpeg -i FILE out.mp4` converts others");
  };
  return std::make_unique<CaptureSource>(Capture{path.string(), open, refusal, false, 0.0});
}

}  // namespace

std::unique_ptr<Source> open_source(const std::string& text, const SourceOptions& options) {
  if (const int index = webcam_index(text); index >= 0) return webcam(index, options);
  if (begins(text, "csi://")) {
    if (!is_number(text.substr(6))) throw Error("'" + text + "' is no camera port", "csi://0 is the first");
    const auto pipeline = csi_pipeline(std::stoi(text.substr(6)), options.size.value_or(cv::Size(1280, 720)));
    return gstreamer(pipeline, text, options);
  }
  if (options.size) {
    throw Error("--size asks a camera for its size, and " + without_password(text) + " is none that can be asked",
                "leave it out; a GStreamer pipeline states its size in its caps");
  }
  if (text.find(" ! ") != std::string::npos) return gstreamer(text, "the GStreamer pipeline", options);
  static const std::regex kStream("(rtsps?|rtmp|https?|udp|tcp)://.*", std::regex::icase);
  if (std::regex_match(text, kStream)) return stream(text, options);
  const fs::path path(text);
  if (fs::is_directory(path)) return open_pictures(path);
  if (is_sequence(text) && !fs::exists(path)) return open_sequence(text);
  if (is_picture(path)) return open_pictures(path);
  if (fs::is_regular_file(path)) return video(path);
  throw Error("there is no source '" + without_password(text) + "'",
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

namespace {

std::string redacted_address(const std::string& address) {
  static const std::regex kKnown("(rtsp[stu]?|rtmp[st]?|https?|udp|tcp|rtp|srt|mms|ftps?|file|csi)", std::regex::icase);
  static const std::regex kNoPort(".*:(?![0-9]{0,5}$).*"), kBrackets("\\[.*\\]");
  const auto colon = address.find(':');
  const auto begin = std::min(address.find_first_not_of('/', colon + 1), address.size());
  const std::string scheme = address.substr(0, begin);
  if (!std::regex_match(address.substr(0, colon), kKnown)) return scheme + "…";
  const auto at = address.rfind('@');  // a password may hold /, ?, # and @
  const bool user = at != std::string::npos && at >= begin;
  const std::string rest = address.substr(user ? at + 1 : begin);
  const auto query = std::min(rest.find_first_of("?#"), rest.size()), slash = std::min(rest.find('/'), query);
  std::string host = rest.substr(0, slash);
  if (!user && std::regex_match(std::regex_replace(host, kBrackets, ""), kNoPort)) host = "…";  // a user, and no host
  return scheme + (user ? "…@" : "") + host + rest.substr(slash, query - slash) + rest.substr(query, 1) +
         (query + 1 < rest.size() ? "…" : "");
}

}  // namespace

std::string without_password(const std::string& text) {
  static const std::regex kWhole("[A-Za-z][A-Za-z0-9+.-]+:/.*"), kAlone("(//)?[^\\s/:@'\"=(,]+:[^\\s@'\"]+@(.*)");
  static const std::regex kSetting("((user|proxy)-(id|pw)|password|passwd)=(\"[^\"]*\"|[^\\s\"']+)");
  static const std::regex kAddress("\"[A-Za-z][A-Za-z0-9+.-]+:/[^\"]*\"|[A-Za-z][A-Za-z0-9+.-]+:/[^\\s\"']*");
  if (text.find(" ! ") == std::string::npos) {
    if (std::regex_match(text, kWhole)) return redacted_address(text);
    std::smatch found;
    return std::regex_match(text, found, kAlone) ? found[1].str() + "…@" + found[2].str() : text;
  }
  const std::string plain = std::regex_replace(text, kSetting, "$1=…");
  std::string shown;
  auto end = plain.cbegin();
  for (std::sregex_iterator at(plain.begin(), plain.end(), kAddress); at != std::sregex_iterator(); ++at) {
    const std::string address = at->str();
    const bool quoted = address.front() == '"';
    shown.append(end, (*at)[0].first);
    shown += quoted ? '"' + redacted_address(address.substr(1, address.size() - 2)) + '"' : redacted_address(address);
    end = (*at)[0].second;
  }
  return shown.append(end, plain.cend());
}

std::vector<std::string> cameras(const fs::path& folder) {
  std::error_code missing;
  std::vector<fs::path> entries;
  for (const auto& entry : fs::directory_iterator(folder, missing)) entries.push_back(entry.path());
  std::sort(entries.begin(), entries.end(), [](const fs::path& one, const fs::path& other) {
    const std::string a = one.filename().string(), b = other.filename().string();
    return std::pair(a.size(), a) < std::pair(b.size(), b);  // video9 before video10
  });
  std::vector<std::string> found;
  for (const auto& entry : entries) {
    // One camera has several nodes; index 0 is the one that gives pictures.
    if (fs::exists(entry / "index") && first_line(entry / "index") != "0") continue;
    const std::string name = entry.filename().string(), title = first_line(entry / "name");
    if (name.rfind("video", 0) != 0) continue;
    found.push_back(name.substr(5) + " (" + (title.empty() ? "unnamed" : title) + ")");
  }
  return found;
}

Error no_camera(int index, const fs::path& folder) {
  const auto found = cameras(folder);
  const std::string number = std::to_string(index);
  if (found.empty()) {
    return Error(
        "camera " + number + " does not open: this machine has no camera",
        "plug one in, or give a video, rtsp://… or csi://0 (a Jetson's port) as --source; in a container, pass "
        "the device through (docker run --device /dev/video0)");
  }
  const auto is_it = [&](const std::string& entry) { return entry.substr(0, entry.find(' ')) == number; };
  if (std::any_of(found.begin(), found.end(), is_it)) {
    return Error(
        "camera " + number + " is there and does not open: another program may hold it, or you may not read it",
        "close the other program (`fuser /dev/video" + number + "`), or add yourself to the group 'video'");
  }
  return Error("there is no camera " + number + "; this machine has " + joined(found),
               "--source " + found.front().substr(0, found.front().find(' ')));
}

}  // namespace edgefer::app
