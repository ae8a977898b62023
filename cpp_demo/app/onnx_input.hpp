// The size of pictures that is baked into an ONNX file, changed in its bytes.
#pragma once

#include <string>
#include <vector>

namespace edgefer::app {

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
