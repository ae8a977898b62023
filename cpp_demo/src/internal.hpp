#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "edgefer/manifest.hpp"
#include "edgefer/session.hpp"

// What the library's sources know of each other and do not install: what sessions share, how each backend that is
// compiled in is reached, what a CPU's instructions mean, and base64.

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

/// What check_cpu() does on a CPU with the instructions `here`.
void check_instructions(const std::filesystem::path& engine, const Manifest& manifest,
                        const std::vector<std::string>& here);

/// Which instructions the CPU whose /proc/cpuinfo is `cpuinfo` has that decide how fast and how exactly low precisions
/// run; empty where it does not tell.
std::vector<std::string> instruction_set(const std::string& cpuinfo);

/// Whether uint8×int8 kernels saturate unless weights keep to 7 bits: x86 without VNNI.
/// https://github.com/microsoft/onnxruntime/issues/14642
bool saturates(const std::vector<std::string>& instructions);

/// The bytes that `text` stands for in base64 (RFC 4648, section 4, padded); std::invalid_argument where it is not
/// that.
std::vector<std::uint8_t> base64_decode(const std::string& text);

}  // namespace edgefer
