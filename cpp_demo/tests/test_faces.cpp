#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN  // here, for all files of the program
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "edgefer/error.hpp"
#include "edgefer/face_pixel.hpp"
#include "vectors.hpp"

namespace {

using edgefer::Format;
using vectors::FaceCase;

struct Apart {
  int max = 0;
  std::size_t count = 0;  // of bytes that are not the same
};

Apart apart(const std::vector<std::uint8_t>& found, const std::vector<std::uint8_t>& wanted) {
  REQUIRE(found.size() == wanted.size());
  Apart result;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const int difference = std::abs(found[i] - wanted[i]);
    result.max = std::max(result.max, difference);
    result.count += difference > 0 ? 1 : 0;
  }
  return result;
}

std::vector<std::uint8_t> prepared(const FaceCase& one) {
  std::vector<std::uint8_t> face(one.contract.face_bytes());
  if (one.whole) {
    edgefer::prepare(one.view(), one.contract, face.data());
  } else {
    edgefer::prepare(one.view(), one.contract, one.box, face.data());
  }
  return face;
}

}  // namespace

TEST_SUITE_BEGIN("faces");

TEST_CASE("crops are Python's, in every format") {
  std::size_t different = 0, bytes = 0;
  for (const FaceCase& one : vectors::faces("faces.json")) {
    const Apart result = apart(prepared(one), one.face.values);
    CHECK(result.max <= 1);
    different += result.count;
    bytes += one.face.values.size();
  }
  REQUIRE(bytes > 10000);
  CHECK(different == 0);  // the same arithmetic: one level is what would be allowed
}

TEST_CASE("the pixel that a kernel's thread computes is the loop's") {
  for (const FaceCase& one : vectors::faces("faces.json")) {
    if (one.whole) continue;
    const edgefer::Image image = one.view();
    const edgefer::pixel::Window window = edgefer::window_of(image, one.contract, one.box);
    std::vector<std::uint8_t> face(one.contract.face_bytes());
    std::uint8_t* out = face.data();
    for (int row = 0; row < one.contract.height; ++row) {
      for (int column = 0; column < one.contract.width; ++column, out += one.contract.channels) {
        edgefer::pixel::face(image, window, row, column, one.contract.channels, out);
      }
    }
    CHECK(apart(face, one.face.values).max <= 1);
  }
}

TEST_CASE("tilted squares are those of OpenCV's warp, whose steps are a thirty-second of a pixel") {
  double sum = 0.0;
  std::size_t bytes = 0;
  for (const FaceCase& one : vectors::faces("turned.json")) {
    std::vector<std::uint8_t> face(one.contract.face_bytes());
    edgefer::cut(one.view(), one.contract, one.square, face.data());
    const Apart result = apart(face, one.face.values);
    CHECK(result.max <= 3);
    sum += static_cast<double>(result.count);
    bytes += face.size();
    edgefer::cut(one.view(), one.contract, one.square, face.data(), false);
    CHECK(apart(face, one.face.values).max > 20);  // cut level, it is another face
  }
  CHECK(sum / static_cast<double>(bytes) < 0.4);
}

TEST_CASE("rows may be padded") {
  const std::vector<std::uint8_t> image = {1, 2, 99, 3, 4, 99};
  edgefer::Contract contract;
  contract.height = contract.width = 2;
  contract.channels = 1;
  std::vector<std::uint8_t> face(4);
  edgefer::prepare({image.data(), 2, 2, 3, Format::grey}, contract, face.data());
  CHECK(face == std::vector<std::uint8_t>{1, 2, 3, 4});
}

TEST_CASE("boxes that are no boxes, and pictures without pixels") {
  const std::vector<std::uint8_t> image(12, 7);
  edgefer::Contract contract;
  contract.height = contract.width = 4;
  contract.channels = 1;
  std::vector<std::uint8_t> face(16);
  const edgefer::Image view{image.data(), 4, 3, 4, Format::grey};
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinite = std::numeric_limits<double>::infinity();
  for (const edgefer::Box& box : {edgefer::Box{1, 1, 0, 3},
                                  {1, 1, 3, -1},
                                  {nan, 1, 3, 3},
                                  {1, infinite, 3, 3},
                                  {0, 0, 1e300, 1e300},
                                  {1e9, 1e9, 3, 3}}) {
    CHECK_THROWS_WITH_AS(edgefer::prepare(view, contract, box, face.data()), doctest::Contains("the face box ("),
                         edgefer::Error);
  }
  CHECK_THROWS_WITH_AS(edgefer::prepare({nullptr, 0, 0, 0, Format::grey}, contract, face.data()),
                       doctest::Contains("the image has no pixels (0×0)"), edgefer::Error);
  CHECK_THROWS_WITH_AS(edgefer::prepare({image.data(), 2, 2, 2, Format::nv12}, contract, face.data()),
                       doctest::Contains("no chroma plane"), edgefer::Error);
  const auto refused = [&](const edgefer::Image& one, const char* why) {
    CHECK_THROWS_WITH_AS(edgefer::prepare(one, contract, face.data()), doctest::Contains(why), edgefer::Error);
  };
  refused({image.data(), 2, 3, 2, Format::nv12, image.data(), 2}, "NV12 image of 3×2 pixels has chroma for fewer");
  refused({image.data(), 2, 2, 2, Format::nv12, image.data()}, "rows of 2 bytes cannot lie 0 bytes apart");
  refused({image.data(), 2, 2, 5, Format::rgb}, "rows of 6 bytes cannot lie 5 bytes apart");
  refused({image.data(), 4, 3, 0, Format::grey}, "rows of 4 bytes cannot lie 0 bytes apart");
  edgefer::prepare({image.data() + 8, 4, 3, -4, Format::grey}, contract, face.data());  // from the bottom up
  edgefer::prepare(view, contract, {-50, -50, 3, 3}, face.data());  // far outside: the nearest corner
  CHECK(face == std::vector<std::uint8_t>(16, 7));
}

TEST_SUITE_END();
