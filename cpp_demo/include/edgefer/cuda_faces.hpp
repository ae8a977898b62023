#pragma once

#include <cstddef>
#include <cstdint>

#include "edgefer/faces.hpp"

namespace edgefer {

/// prepare() for `count` boxes of one picture, on the GPU: one kernel, no copy, no wait.
///
/// Built where nvcc was found. Feed it TensorRtSession::device_input() and a stream, and no pixel touches the CPU.
///
/// Args:
///   image: its pointers are the device's.
///   boxes: the host's; the contract's margin is added.
///   faces: the device's, count × contract.face_bytes().
///   stream: a cudaStream_t.
///
/// Throws Error: a box without area, a picture without pixels, or CUDA failed.
void prepare_on_gpu(const Image& image, const Contract& contract, const Box* boxes, std::size_t count,
                    std::uint8_t* faces, void* stream);

}  // namespace edgefer
