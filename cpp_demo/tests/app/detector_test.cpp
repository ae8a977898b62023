#include <cmath>
#include <random>

#include "detector.hpp"
#include "support.hpp"
#include "yunet.hpp"

using namespace edgefer::app;
using edgefer::Detection;
using support::contains;
using support::Folder;

namespace {

/// The outputs of one stride, all of them silent.
struct Outputs {
  explicit Outputs(std::size_t cells) : scores(cells), objectness(cells), boxes(4 * cells), points(10 * cells) {}
  YunetStride view() const { return {scores.data(), objectness.data(), boxes.data(), points.data()}; }
  std::vector<float> scores, objectness, boxes, points;
};

/// A protobuf field with bytes in it.
std::string field(int number, const std::string& bytes) {
  REQUIRE(number < 16);
  REQUIRE(bytes.size() < 128);
  return std::string(1, static_cast<char>(number << 3 | 2)) + static_cast<char>(bytes.size()) + bytes;
}

/// A ValueInfoProto: name, float, one size.
std::string value_info(const std::string& name, char size) {
  const std::string shape = field(1, std::string("\x08") + size);
  return field(1, name) + field(2, field(1, "\x08\x01" + field(2, shape)));
}

}  // namespace

TEST_CASE("a cell of YuNet becomes the face that its formula says") {
  std::vector<Outputs> strides{Outputs(8 * 12), Outputs(4 * 6), Outputs(2 * 3)};  // of 64 × 96 pixels
  Outputs& middle = strides[1];
  const std::size_t cell = 2 * 6 + 3;  // row 2, column 3 of stride 16
  middle.scores[cell] = 0.81F;
  middle.objectness[cell] = 1.3F;  // clipped to 1
  middle.boxes[4 * cell] = 0.5F;
  middle.boxes[4 * cell + 1] = -0.25F;
  middle.boxes[4 * cell + 2] = std::log(2.0F);
  middle.boxes[4 * cell + 3] = std::log(3.0F);
  for (std::size_t i = 0; i < 10; ++i) middle.points[10 * cell + i] = 0.1F * static_cast<float>(i);
  strides[2].scores[0] = strides[2].objectness[0] = 0.49F;  // not sure enough
  const auto faces = decode_yunet({strides[0].view(), strides[1].view(), strides[2].view()}, 64, 96, 0.5F);
  REQUIRE(faces.size() == 1);
  CHECK(faces[0].score == doctest::Approx(0.9));
  CHECK(faces[0].box.width == doctest::Approx(32));
  CHECK(faces[0].box.height == doctest::Approx(48));
  CHECK(faces[0].box.x == doctest::Approx(3.5 * 16 - 16));
  CHECK(faces[0].box.y == doctest::Approx(1.75 * 16 - 24));
  CHECK(static_cast<double>((*faces[0].landmarks)[4].x) == doctest::Approx(3.8 * 16));
  CHECK(static_cast<double>((*faces[0].landmarks)[4].y) == doctest::Approx(2.9 * 16));
}

TEST_CASE("values beyond all sense stay finite") {
  std::vector<Outputs> strides{Outputs(16), Outputs(4), Outputs(1)};
  for (auto& outputs : strides) {
    for (auto* values : {&outputs.scores, &outputs.objectness, &outputs.boxes})
      std::fill(values->begin(), values->end(), 1e9F);
  }
  const auto faces = decode_yunet({strides[0].view(), strides[1].view(), strides[2].view()}, 32, 32, 0.5F);
  CHECK(faces.size() == 21);
  for (const Detection& face : faces) CHECK(std::isfinite(face.box.width));
}

TEST_CASE("the square of a face is centred, and turned with its eyes") {
  const edgefer::Landmarks level{{{10, 20}, {30, 20}, {20, 30}, {12, 40}, {28, 40}}};
  const auto square = face_square({0, 0, 40, 90}, level);
  CHECK(square.x == 20);
  CHECK(square.y == 45);
  CHECK(square.side == doctest::Approx(66));
  CHECK(square.angle == 0);
  const edgefer::Landmarks tilted{{{10, 10}, {30, 30}, {20, 30}, {12, 40}, {28, 40}}};
  CHECK(face_square({0, 0, 40, 90}, tilted).angle == doctest::Approx(45));
}

TEST_CASE("a model gets another input size, and what is not about sizes stays") {
  const std::string graph = field(2, "graph") + field(11, value_info("input", 99)) +
                            field(12, value_info("cls_8", 98)) + field(13, value_info("inner", 97));
  const std::string model = field(2, "me") + field(7, graph) + "\x08\x08";
  const auto names = onnx_names(model, "m");
  CHECK(names.inputs == std::vector<std::string>{"input"});
  CHECK(names.outputs == std::vector<std::string>{"cls_8"});
  const std::string changed = with_input_size(model, 64, 320, "m");
  CHECK(onnx_names(changed, "m").inputs == names.inputs);
  CHECK(contains(changed, field(2, "graph")));
  CHECK_FALSE(contains(changed, "inner"));
  CHECK(contains(changed, std::string("\x0A\x02\x08\x03\x0A\x02\x08\x40\x0A\x03\x08\xC0\x02", 13)));  // 3, 64, 320
  CHECK_FALSE(contains(changed, "\x08\x62"));  // the output's old size
  CHECK(changed.substr(changed.size() - 2) == "\x08\x08");
  CHECK(with_input_size(changed, 64, 320, "m") == changed);
}

TEST_CASE("cut, garbled and endless models are refused, never read beyond") {
  const std::string model =
      field(2, "me") + field(7, field(11, value_info("input", 99)) + field(12, value_info("out", 98)));
  std::mt19937 random(1);
  int refused = 0;
  for (int turn = 0; turn < 3000; ++turn) {
    std::string broken = model.substr(0, turn < 1000 ? random() % model.size() : model.size());
    for (int hits = turn < 1000 ? 0 : 3; hits > 0; --hits)
      broken[random() % broken.size()] = static_cast<char>(random());
    try {
      with_input_size(broken, 32, 32, "broken");
      onnx_names(broken, "broken");
    } catch (const edgefer::Error& fault) {
      CHECK(contains(fault.what(), "broken is not an ONNX file"));
      ++refused;
    }
  }
  CHECK(refused > 500);
}

TEST_CASE("given boxes are found at their frames") {
  const Folder folder;
  const auto file = folder.path / "boxes.jsonl";
  support::write(file,
                 "{\"frame\": 2, \"box\": [1, 2, 30, 40], \"score\": 0.5, \"label\": null}\n\n"
                 "{\"frame\": 2, \"box\": [50, 2, 30, 30]}\n");
  const auto detector = open_given_boxes(file);
  CHECK(detector->detect(support::frame(0)).empty());
  const auto found = detector->detect(support::frame(2));
  REQUIRE(found.size() == 2);
  CHECK(found[0].box.height == 40);
  CHECK(found[0].score == 0.5);
  CHECK(found[0].crop.side == doctest::Approx(std::sqrt(1200.0)));
  CHECK(found[1].crop.x == 65);
  CHECK(found[1].score == 1.0);
}

TEST_CASE("boxes that are none are named with their line") {
  const Folder folder;
  const auto fault = [&](const std::string& text) {
    support::write(folder.path / "b", text);
    return support::refusal([&] { open_given_boxes(folder.path / "b"); });
  };
  const std::string good = "{\"frame\": 2, \"box\": [1, 2, 30, 40]}\n";
  CHECK(contains(fault(good + "hello"), "line 2, is no box"));
  CHECK(contains(fault("{\"frame\": 2}"), "line 1, is no box"));
  CHECK(contains(fault("{\"frame\": 2, \"box\": [1, 2, 3]}"), "four numbers"));
  CHECK(contains(fault("{\"frame\": 2, \"box\": [1, 2, 0, 40]}"), "at least a pixel"));
  CHECK(contains(fault("{\"frame\": 2, \"box\": [1e999, 2, 5, 40]}"), "line 1, is no box"));
  CHECK(contains(support::refusal([] { open_given_boxes("/no/such"); }), "cannot read the boxes /no/such"));
}

TEST_CASE("detectors that are not there are refused") {
  const Folder folder;
  setenv("XDG_CACHE_HOME", folder.path.c_str(), 1);
  const auto fault = [](const std::string& spec, double smallest = 60) {
    return support::refusal([&] { open_detector(spec, {smallest, 1}); });
  };
  CHECK(contains(fault("dlib"), "no face detector is called 'dlib'"));
  CHECK(contains(fault("yunet"), "YuNet is not in the cache"));
  CHECK(contains(fault("none.onnx"), "there is no face detector none.onnx"));
  CHECK(contains(fault("haar", 3), "at least 10 pixels wide, not 3"));
  support::write(folder.path / "text.onnx", "hello");
  CHECK(contains(fault((folder.path / "text.onnx").string()), "is not an ONNX file"));
  support::write(folder.path / "other.onnx",
                 field(7, field(11, value_info("input", 9)) + field(12, value_info("logits", 9))));
  CHECK(contains(fault((folder.path / "other.onnx").string()), "is not YuNet: its outputs are logits"));
}
