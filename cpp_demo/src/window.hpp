#pragma once

#include "edgefer/face_pixel.hpp"

namespace edgefer {

/// The pixels that `box` means, corners rounded half up, and the steps to a face of `contract`'s size.
///
/// Throws Error: the picture has no pixels, or the box no area.
pixel::Window window_of(const Image& image, const Contract& contract, const Box& box);

}  // namespace edgefer
