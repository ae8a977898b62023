// YuNet's outputs to faces, and the size of pictures that is baked into its file.
//
// W. Wu, H. Peng, S. Yu: YuNet: A Tiny Millisecond-level Face Detector. Machine Intelligence Research 20, 2023.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "edgefer/tracking.hpp"

namespace edgefer::app {

inline constexpr std::array kYunetStrides{8, 16, 32};

/// The outputs of one stride: a class score, an objectness, a box (4) and five landmarks (10) per cell, row by row.
struct YunetStride {
  const float* scores = nullptr;
  const float* objectness = nullptr;
  const float* boxes = nullptr;
  const float* points = nullptr;
};

/// The faces of the outputs, one YunetStride for each of kYunetStrides, in pixels of the network's input, before
/// overlaps are resolved; the crop is not filled in.
///
/// A cell at column c and row r of stride s gives `centre = (c + b₀, r + b₁) · s`, `size = exp(b₂, b₃) · s`, landmarks
/// `(c + k₂ₙ, r + k₂ₙ₊₁) · s` and the score `√(class · objectness)` (face_detect.cpp of OpenCV 4.8).
std::vector<Detection> decode_yunet(const std::array<YunetStride, 3>& outputs, int height, int width, float confidence);

/// The square that FER2013 shows of a face with this box and these landmarks, with the angle of its eyes.
Square face_square(const Box& box, const Landmarks& points);

/// What stands in an ONNX file's graph: names of its inputs and outputs.
struct OnnxNames {
  std::vector<std::string> inputs, outputs;
};

/// Throws Error if `model` is no ONNX file; `name` stands in the message.
OnnxNames onnx_names(const std::string& model, const std::string& name);

/// `model` for pictures 1×3×`height`×`width`: its inputs get that shape, its outputs none, and what was noted of
/// tensors inside is left out, so that the runtime works the shapes out again. Throws Error if `model` is no ONNX file.
std::string with_input_size(const std::string& model, int height, int width, const std::string& name);

}  // namespace edgefer::app
