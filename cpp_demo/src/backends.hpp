#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "edgefer/manifest.hpp"
#include "edgefer/session.hpp"

// What sessions share, and how each backend that is compiled in is reached.

namespace edgefer {

/// Index of the tensor `name`. Throws Error: there is none.
std::size_t index_of(const std::vector<TensorSpec>& specs, std::string_view name, const char* kind);

/// Throws Error: `shape` is not one that `spec` allows.
void check_shape(const TensorSpec& spec, const Shape& shape);

/// Throws Error: this build lacks `runtime`, which `what` (a file) is for.
void check_runtime(const std::string& runtime, const std::string& what);

std::unique_ptr<Session> open_openvino(const std::filesystem::path& model, const SessionOptions& options);

std::unique_ptr<Session> open_tensorrt(const std::filesystem::path& engine, const SessionOptions& options);

/// Throws Error: the TensorRT or the GPU that is here is not the one of the manifest. Asked before the engine is read.
void check_tensorrt_place(const std::filesystem::path& engine, const Manifest& manifest);

/// Throws Error: 8-bit weights made where sums are exact, and this CPU is an x86 without VNNI. Announces other
/// differences.
void check_cpu(const std::filesystem::path& engine, const Manifest& manifest);

}  // namespace edgefer
