#pragma once

#include <cstddef>
#include <cstdint>

#include "edgefer/manifest.hpp"

namespace edgefer {

/// How pixels lie in memory: one byte, three bytes, or a plane of luma with a plane of interleaved chroma.
enum class Format { grey, rgb, bgr, nv12 };

/// A picture that somebody else owns.
struct Image {
  const std::uint8_t* data = nullptr;
  int width = 0, height = 0;  ///< Pixels.
  std::ptrdiff_t stride = 0;  ///< Bytes from one row to the next.
  Format format = Format::bgr;
  const std::uint8_t* chroma = nullptr;  ///< NV12 only: height/2 rows of U V pairs; BT.601, 16…235, as OpenCV reads it.
  std::ptrdiff_t chroma_stride = 0;
};

/// In pixels; parts outside a picture repeat its edge.
struct Box {
  double x = 0.0, y = 0.0, width = 0.0, height = 0.0;
};

/// The part of a picture that a network is shown: centre and side in pixels, angle in degrees, clockwise; 0 is level.
struct Square {
  double x = 0.0, y = 0.0, side = 0.0, angle = 0.0;

  Box box() const noexcept { return {x - side / 2, y - side / 2, side, side}; }  ///< As if it were level.
};

/// Add `margin` times the box's width left and right, and times its height above and below.
Box expand(const Box& box, double margin) noexcept;

/// Cut `box` with the contract's margin out of `image` into `face`, contract.face_bytes() bytes.
///
/// Crop, grey in float32, bilinear in float32 (half-pixel centres, no anti-aliasing), rounded half to even: the
/// arithmetic of edgefer/faces.py, within one level of it.
///
/// Throws Error: the image has no pixels, its rows overlap, NV12 has an odd size, or the box has no area.
void prepare(const Image& image, const Contract& contract, const Box& box, std::uint8_t* face);

/// The whole image, without a margin.
void prepare(const Image& image, const Contract& contract, std::uint8_t* face);

/// Cut `square`, which may be tilted, as edgefer/camera/detection.py does; below three degrees it is cut level.
void cut(const Image& image, const Contract& contract, const Square& square, std::uint8_t* face, bool level = true);

}  // namespace edgefer
