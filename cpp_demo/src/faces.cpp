#include "edgefer/faces.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <sstream>
#include <vector>

#include "edgefer/error.hpp"
#include "edgefer/face_pixel.hpp"

namespace edgefer {
namespace {

constexpr double level_enough = 3.0;  // degrees: detectors' landmarks are no more certain than that
constexpr double degree = 3.14159265358979323846 / 180.0;
constexpr double farthest = 1e6;  // pixels: a box beyond it is no face, and its corners would not fit an int

pixel::Window window(double left, double top, double right, double bottom, const Contract& contract) {
  const auto whole = [](double v) { return static_cast<int>(std::floor(v + 0.5)); };
  pixel::Window found;
  found.left = whole(left);
  found.top = whole(top);
  found.width = whole(right) - found.left;
  found.height = whole(bottom) - found.top;
  found.step_x = static_cast<float>(static_cast<double>(found.width) / contract.width);
  found.step_y = static_cast<float>(static_cast<double>(found.height) / contract.height);
  return found;
}

void check(const Image& image) {
  if (image.data == nullptr || image.width < 1 || image.height < 1) {
    throw Error("the image has no pixels (" + std::to_string(image.height) + "×" + std::to_string(image.width) + ")",
                "skip empty frames and files");
  }
  const bool nv12 = image.format == Format::nv12;
  if (nv12 && image.chroma == nullptr) {
    throw Error("an NV12 image has no chroma plane", "set Image::chroma and Image::chroma_stride");
  }
  if (nv12 && (image.width % 2 != 0 || image.height % 2 != 0)) {
    throw Error("an NV12 image of " + std::to_string(image.height) + "×" + std::to_string(image.width) +
                    " pixels has chroma for fewer",
                "its height and width are even");
  }
  const std::ptrdiff_t row = std::ptrdiff_t{image.width} * (nv12 || image.format == Format::grey ? 1 : 3);
  const std::ptrdiff_t shortest =
      nv12 ? std::min(std::abs(image.stride), std::abs(image.chroma_stride)) : std::abs(image.stride);
  if (shortest < row) {
    throw Error("rows of " + std::to_string(row) + " bytes cannot lie " + std::to_string(shortest) + " bytes apart",
                "set Image::stride, and for NV12 Image::chroma_stride, to the bytes from one row to the next");
  }
}

void fill(const Image& image, const Contract& contract, const pixel::Window& from, std::uint8_t* face) {
  std::vector<pixel::Taps> across(static_cast<std::size_t>(contract.width));
  for (int column = 0; column < contract.width; ++column) {
    across[static_cast<std::size_t>(column)] = pixel::taps(column, from.step_x, from.left, from.width, image.width);
  }
  for (int row = 0; row < contract.height; ++row) {
    const pixel::Taps down = pixel::taps(row, from.step_y, from.top, from.height, image.height);
    for (const pixel::Taps& column : across) {
      pixel::write(image, down, column, contract.channels, face);
      face += contract.channels;
    }
  }
}

/// The picture's colour at a point between pixels, counted by their centres; the edge is repeated.
pixel::Colour between(const Image& image, double x, double y) {
  const double left = std::floor(x), above = std::floor(y);
  const auto wx = static_cast<float>(x - left), wy = static_cast<float>(y - above);
  const int column = static_cast<int>(left), row = static_cast<int>(above);
  const auto at = [&](int down, int right) {
    return pixel::read(image, pixel::within(row + down, image.height), pixel::within(column + right, image.width));
  };
  const pixel::Colour a = at(0, 0), b = at(0, 1), c = at(1, 0), d = at(1, 1);
  const auto mix = [wx, wy](float p, float q, float r, float s) {
    return pixel::mixed(pixel::mixed(p, q, wx), pixel::mixed(r, s, wx), wy);
  };
  return {mix(a.red, b.red, c.red, d.red), mix(a.green, b.green, c.green, d.green),
          mix(a.blue, b.blue, c.blue, d.blue)};
}

/// Sample a tilted square along its own axes as RGB of the contract's size, then bring that into its channels.
void fill_tilted(const Image& image, const Contract& contract, const Square& square, std::uint8_t* face) {
  const double side = square.side * (1 + 2 * contract.crop_margin);
  const double cosine = std::cos(square.angle * degree), sine = std::sin(square.angle * degree);
  std::vector<std::uint8_t> turned(static_cast<std::size_t>(contract.height) *
                                   static_cast<std::size_t>(contract.width) * 3);
  std::uint8_t* out = turned.data();
  for (int row = 0; row < contract.height; ++row) {
    const double down = (row + 0.5) / contract.height * side - side / 2;
    for (int column = 0; column < contract.width; ++column) {
      const double across = (column + 0.5) / contract.width * side - side / 2;
      const double x = square.x + cosine * across - sine * down - 0.5;
      const double y = square.y + sine * across + cosine * down - 0.5;
      const pixel::Colour colour = between(image, x, y);
      for (const float channel : {colour.red, colour.green, colour.blue}) *out++ = pixel::rounded(channel);
    }
  }
  prepare(
      {turned.data(), contract.width, contract.height, 3 * static_cast<std::ptrdiff_t>(contract.width), Format::rgb},
      contract, face);
}

}  // namespace

pixel::Window window_of(const Image& image, const Contract& contract, const Box& box) {
  check(image);
  const Box wide = expand(box, contract.crop_margin);
  const std::array<double, 4> edges = {wide.x, wide.y, wide.x + wide.width, wide.y + wide.height};
  bool near = true;
  for (const double edge : edges) near = near && std::abs(edge) < farthest;  // false for NaN too
  const pixel::Window found = near ? window(edges[0], edges[1], edges[2], edges[3], contract) : pixel::Window{};
  if (found.width > 0 && found.height > 0) return found;
  std::ostringstream message;
  message << "the face box (" << box.x << ", " << box.y << ", " << box.width << ", " << box.height << ") "
          << (near ? "has no area" : "is not near any picture");
  throw Error(message.str(), "boxes are x, y, width, height in pixels");
}

Box expand(const Box& box, double margin) noexcept {
  return {box.x - margin * box.width, box.y - margin * box.height, box.width * (1 + 2 * margin),
          box.height * (1 + 2 * margin)};
}

void prepare(const Image& image, const Contract& contract, const Box& box, std::uint8_t* face) {
  fill(image, contract, window_of(image, contract, box), face);
}

void prepare(const Image& image, const Contract& contract, std::uint8_t* face) {
  check(image);
  fill(image, contract, window(0, 0, image.width, image.height, contract), face);
}

void cut(const Image& image, const Contract& contract, const Square& square, std::uint8_t* face, bool level) {
  if (!level || std::abs(square.angle) < level_enough) {
    prepare(image, contract, square.box(), face);
    return;
  }
  window_of(image, contract, square.box());  // refuses what has no area or is nowhere
  fill_tilted(image, contract, square, face);
}

}  // namespace edgefer
