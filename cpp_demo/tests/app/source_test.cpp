#include <opencv2/imgcodecs.hpp>

#include "source.hpp"
#include "support.hpp"

using namespace edgefer::app;
using support::contains;
using support::Folder;

namespace {

void picture(const std::filesystem::path& path, const cv::Scalar& colour, int type = CV_8UC3) {
  cv::imwrite(path.string(), cv::Mat(4, 6, type, colour));
}

std::vector<int> blues(Source& source) {
  std::vector<int> found;
  while (const auto pixels = source.read()) found.push_back(pixels->at<cv::Vec3b>(0, 0)[0]);
  return found;
}

}  // namespace

TEST_CASE("a folder's pictures stand for themselves, in the order of their names") {
  const Folder folder;
  for (const auto* name : {"c", "a", "b"}) picture(folder.path / (std::string(name) + ".png"), {double(name[0]), 0, 0});
  support::write(folder.path / "notes.txt", "no picture");
  const auto source = open_source(folder.path.string(), {});
  CHECK(source->stills);
  CHECK_FALSE(source->live);
  CHECK(blues(*source) == std::vector<int>{'a', 'b', 'c'});
}

TEST_CASE("numbered pictures are a video, in the order of their numbers") {
  const Folder folder;
  for (const int number : {9, 10, 11, 100})
    picture(folder.path / ("f" + std::to_string(number) + ".png"), {double(number), 0, 0});
  picture(folder.path / "fx.png", {1, 0, 0});
  const auto source = open_source((folder.path / "f%d.png").string(), {});
  CHECK_FALSE(source->stills);
  CHECK(blues(*source) == std::vector<int>{9, 10, 11, 100});
}

TEST_CASE("pictures of any depth and channels become BGR of eight bits") {
  const Folder folder;
  picture(folder.path / "deep.png", {65535, 32896, 0}, CV_16UC3);
  picture(folder.path / "grey.png", {77}, CV_8UC1);
  picture(folder.path / "clear.png", {10, 20, 30, 0}, CV_8UC4);
  picture(folder.path / "half.png", {0, 100, 200, 128}, CV_8UC4);
  const auto first = [&](const char* name) { return read_picture(folder.path / name).at<cv::Vec3b>(1, 1); };
  CHECK(first("deep.png") == cv::Vec3b(255, 128, 0));
  CHECK(first("grey.png") == cv::Vec3b(77, 77, 77));
  CHECK(first("clear.png") == cv::Vec3b(255, 255, 255));
  CHECK(first("half.png") == cv::Vec3b(127, 177, 227));
}

TEST_CASE("what is no picture is named") {
  const Folder folder;
  support::write(folder.path / "text.jpg", "hello there");
  support::write(folder.path / "empty.png", "");
  const auto fault = [&](const char* name) { return support::refusal([&] { read_picture(folder.path / name); }); };
  CHECK(contains(fault("text.jpg"), "it begins with the text 'hello there'"));
  CHECK(contains(fault("empty.png"), "is empty"));
  CHECK(contains(fault("none.png"), "No such file"));
}

TEST_CASE("sources that are not there are refused with advice") {
  const Folder folder;
  support::write(folder.path / "empty.mp4", "");
  support::write(folder.path / "text.mp4", "this is no video");
  const auto fault = [](const std::string& text) { return support::refusal([&] { open_source(text, {}); }); };
  CHECK(contains(fault("nothing/here"), "there is no source 'nothing/here'"));
  CHECK(contains(fault("csi://front"), "'csi://front' is no camera port"));
  CHECK(contains(fault(folder.path.string()), "has no pictures"));
  CHECK(contains(fault((folder.path / "%03d.png").string()), "there are no pictures"));
  CHECK(contains(fault((folder.path / "empty.mp4").string()), "empty.mp4 is empty"));
  CHECK(contains(fault((folder.path / "text.mp4").string()), "not a video"));
  CHECK(contains(fault("/dev/video97"), "camera"));
  SourceOptions options;
  options.size = cv::Size(1280, 720);
  for (const auto& text : {folder.path.string(), std::string("a ! b"), std::string("rtsp://me:secret@host/")}) {
    const std::string said = support::refusal([&] { open_source(text, options); });
    CHECK(contains(said, "--size asks a camera for its size"));
    CHECK_FALSE(contains(said, "secret"));
  }
}

TEST_CASE("cameras are listed as Linux knows them") {
  const Folder folder;
  const auto camera = [&](const char* node, const char* index, const char* name) {
    std::filesystem::create_directories(folder.path / node);
    support::write(folder.path / node / "index", std::string(index) + "\n");
    support::write(folder.path / node / "name", std::string(name) + "\n");
  };
  CHECK(contains(no_camera(0, folder.path).what(), "this machine has no camera"));
  camera("video10", "0", "Capture card");
  camera("video2", "0", "HD Webcam");
  camera("video3", "1", "HD Webcam");
  CHECK(cameras(folder.path) == std::vector<std::string>{"2 (HD Webcam)", "10 (Capture card)"});
  CHECK(contains(no_camera(0, folder.path).what(), "there is no camera 0; this machine has 2 (HD Webcam), 10"));
  CHECK(contains(no_camera(2, folder.path).what(), "camera 2 is there and does not open"));
}

TEST_CASE("passwords do not appear, and the CSI pipeline ends in an appsink") {
  CHECK(without_password("rtsp://me:secret@host:554/live") == "rtsp://…@host:554/live");
  CHECK(without_password("rtsp://host:554/live") == "rtsp://host:554/live");
  CHECK(without_password("rtsp://me:secret") == "rtsp://…");
  CHECK(without_password("me:secret@host/live") == "…@host/live");
  CHECK(without_password("s3://secret") == "s3://…");
  CHECK(without_password("nothing/here.mp4") == "nothing/here.mp4");
  CHECK(without_password("rtsp://me:p@s/s?:w@host/live") == "rtsp://…@host/live");
  CHECK(without_password("http://host/a.mjpg?token=secret&b=2") == "http://host/a.mjpg?…");
  CHECK(without_password("rtspsrc location=rtsp://a:b@h/x user-id=me user-pw=secret ! appsink") ==
        "rtspsrc location=rtsp://…@h/x user-id=… user-pw=… ! appsink");
  const auto pipeline = csi_pipeline(1, {640, 480});
  CHECK(contains(pipeline, "sensor-id=1 "));
  CHECK(contains(pipeline, "width=640,height=480"));
  CHECK(contains(pipeline, "! appsink drop=true"));
}
