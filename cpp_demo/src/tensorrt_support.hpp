#pragma once

#include <NvInferRuntime.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

#include "edgefer/session.hpp"

// What TensorRT 8.5, 8.6, 10 and 11 say differently, and small conversions.

namespace edgefer::trt {

/// Keeps the errors since they were last asked for. TensorRT calls it from any thread, so it never throws.
class Logger final : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override;
  std::string reason();  ///< The last errors, which are forgotten then, or that there was none.

 private:
  std::mutex mutex_;
  std::string errors_;
};

/// The logger. TensorRT keeps the first that it is given, for all that the process makes later; so there is one, and it
/// is never destroyed.
Logger& logger();

/// Throws Error with what the logger heard where `fine` is false.
void check(bool fine, const std::string& what);

/// Whether TensorRT `here` loads a version compatible engine of `built`: a later one of the same major version, 10
/// those of 8 and 11 those of 10.
bool loads(const std::string& built, const std::string& here);

/// "10.3.0": of the library that is loaded, not of the headers.
std::string version();

/// Whether the first three numbers of both are equal: Python knows a fourth, the library's C function does not.
bool same_version(const std::string& manifest, const std::string& here);

/// Execution contexts that may share the engine's one profile: before TensorRT 10, one.
std::size_t max_contexts();

/// Throws Error: a type that is not supported, or a free size beside the batch's.
TensorSpec spec_of(const nvinfer1::ICudaEngine& engine, const char* name);

/// The batch sizes that the engine takes, from the first profile of `first`.
void read_profile(const nvinfer1::ICudaEngine& engine, const TensorSpec& first, std::int64_t& min_batch,
                  std::int64_t& max_batch);

/// Throws Error: a batch outside the profile.
void check_profile(const Shape& shape, std::int64_t min_batch, std::int64_t max_batch);

std::size_t bytes_of(const TensorSpec& spec, const Shape& shape);
Shape shape_of(const nvinfer1::Dims& dims);
nvinfer1::Dims dims_of(const Shape& shape);

}  // namespace edgefer::trt
