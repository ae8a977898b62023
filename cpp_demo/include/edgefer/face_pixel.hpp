#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "edgefer/faces.hpp"

#ifdef __CUDACC__
#define EDGEFER_HOST_DEVICE __host__ __device__
#else
#define EDGEFER_HOST_DEVICE
#endif

/// One pixel of one face, in code that a CPU and a GPU compile from the same text.
///
/// Sums and products are never contracted to fused ones, on either side, so that all of them round alike: on a GPU by
/// the intrinsics below, on a CPU by -ffp-contract=off, with which the library is compiled.
namespace edgefer::pixel {

/// The part of a picture that is cut, in whole pixels, and the float32 steps of the resize.
struct Window {
  int left = 0, top = 0, width = 0, height = 0;
  float step_x = 1.0F, step_y = 1.0F;  ///< width and height over the face's.
};

/// The two source indices of one target index, and the weight of the second.
struct Taps {
  int low = 0, high = 0;
  float weight = 0.0F;
};

/// Three channels, or one that is grey.
struct Colour {
  float red = 0.0F, green = 0.0F, blue = 0.0F;
};

EDGEFER_HOST_DEVICE inline float times(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

EDGEFER_HOST_DEVICE inline float plus(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}

EDGEFER_HOST_DEVICE inline int within(int value, int count) {
  return value < 0 ? 0 : (value >= count ? count - 1 : value);
}

/// Half-pixel centres; indices of a window of `count` pixels from `first` in a picture of `size`, edges repeated.
EDGEFER_HOST_DEVICE inline Taps taps(int target, float step, int first, int count, int size) {
  const float position = plus(times(plus(static_cast<float>(target), 0.5F), step), -0.5F);
  const float low = floorf(position);
  const int index = static_cast<int>(low);
  return {within(first + within(index, count), size), within(first + within(index + 1, count), size),
          plus(position, -low)};
}

EDGEFER_HOST_DEVICE inline int shifted(int value) {
  const int byte = value >> 20;
  return byte < 0 ? 0 : (byte > 255 ? 255 : byte);
}

/// BT.601, luma 16…235, in 20-bit fixed point with the coefficients to three digits, as OpenCV turns NV12 to colour.
EDGEFER_HOST_DEVICE inline Colour of_nv12(const Image& image, int row, int column) {
  const std::uint8_t* pair = image.chroma + (row / 2) * image.chroma_stride + (column / 2) * 2;
  const int above = image.data[row * image.stride + column] - 16;
  const int luma = (above < 0 ? 0 : above) * 1220542, u = pair[0] - 128, v = pair[1] - 128, half = 1 << 19;
  return {static_cast<float>(shifted(luma + 1673527 * v + half)),
          static_cast<float>(shifted(luma - 409993 * u - 852492 * v + half)),
          static_cast<float>(shifted(luma + 2116026 * u + half))};
}

/// The pixel of a picture as float32 colour; grey is repeated.
EDGEFER_HOST_DEVICE inline Colour read(const Image& image, int row, int column) {
  if (image.format == Format::nv12) return of_nv12(image, row, column);
  if (image.format == Format::grey) {
    const float grey = image.data[row * image.stride + column];
    return {grey, grey, grey};
  }
  const std::uint8_t* bytes = image.data + row * image.stride + 3 * static_cast<std::ptrdiff_t>(column);
  const float first = bytes[0], green = bytes[1], last = bytes[2];
  return image.format == Format::rgb ? Colour{first, green, last} : Colour{last, green, first};
}

/// Grey by ITU-R BT.601-7's weights; what is grey already stays exactly what it is.
EDGEFER_HOST_DEVICE inline float grey(const Image& image, int row, int column) {
  const Colour colour = read(image, row, column);
  if (image.format == Format::grey) return colour.red;
  return plus(plus(times(colour.red, 0.299F), times(colour.green, 0.587F)), times(colour.blue, 0.114F));
}

EDGEFER_HOST_DEVICE inline float mixed(float low, float high, float weight) {
  return plus(low, times(plus(high, -low), weight));
}

EDGEFER_HOST_DEVICE inline std::uint8_t rounded(float value) {
  const float whole = rintf(value);
  return static_cast<std::uint8_t>(whole < 0.0F ? 0.0F : (whole > 255.0F ? 255.0F : whole));
}

/// Write the `channels` bytes of one pixel of a face to `out`: first across, then down, as Python does.
EDGEFER_HOST_DEVICE inline void write(const Image& image, const Taps& down, const Taps& across, int channels,
                                      std::uint8_t* out) {
  if (channels == 1) {
    const float above = mixed(grey(image, down.low, across.low), grey(image, down.low, across.high), across.weight);
    const float below = mixed(grey(image, down.high, across.low), grey(image, down.high, across.high), across.weight);
    out[0] = rounded(mixed(above, below, down.weight));
    return;
  }
  const Colour a = read(image, down.low, across.low), b = read(image, down.low, across.high);
  const Colour c = read(image, down.high, across.low), d = read(image, down.high, across.high);
  const float x = across.weight, y = down.weight;
  out[0] = rounded(mixed(mixed(a.red, b.red, x), mixed(c.red, d.red, x), y));
  out[1] = rounded(mixed(mixed(a.green, b.green, x), mixed(c.green, d.green, x), y));
  out[2] = rounded(mixed(mixed(a.blue, b.blue, x), mixed(c.blue, d.blue, x), y));
}

/// One pixel of the face that `window` of `image` becomes: what a kernel's thread does.
EDGEFER_HOST_DEVICE inline void face(const Image& image, const Window& window, int row, int column, int channels,
                                     std::uint8_t* out) {
  const Taps down = taps(row, window.step_y, window.top, window.height, image.height);
  const Taps across = taps(column, window.step_x, window.left, window.width, image.width);
  write(image, down, across, channels, out);
}

}  // namespace edgefer::pixel

namespace edgefer {

/// The pixels that `box` means, corners rounded half up, and the steps to a face of `contract`'s size.
///
/// Throws Error: the picture has no pixels, or the box no area.
pixel::Window window_of(const Image& image, const Contract& contract, const Box& box);

}  // namespace edgefer
