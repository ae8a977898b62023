#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "edgefer/session.hpp"

namespace edgefer {

/// A serialised engine in TensorRT 8.5 to 11; in builds that found TensorRT and CUDA.
///
/// Buffers are pinned and made once for the largest batch of the engine's first profile; on a GPU that shares its
/// memory with the CPU nothing is copied. From the second run of a shape on, copies and kernels are one CUDA graph.
class TensorRtSession final : public Session {
 public:
  /// An engine that was built for a DLA core runs on `dla_core`, whichever that was; −1: it was not. A version
  /// compatible engine holds code, which TensorRT runs only with `host_code`: it is a program that one has to trust.
  ///
  /// Throws Error: no GPU, no such DLA core, no memory, or TensorRT refuses the engine.
  explicit TensorRtSession(const std::filesystem::path& engine, int dla_core = -1, bool host_code = false);
  ~TensorRtSession() override;

  const char* runtime() const noexcept override { return "tensorrt"; }
  const std::string& version() const noexcept override;
  const std::vector<TensorSpec>& inputs() const noexcept override;
  const std::vector<TensorSpec>& outputs() const noexcept override;
  std::int64_t min_batch() const noexcept override;
  std::int64_t max_batch() const noexcept override;

  void* input(std::string_view name, const Shape& shape) override;
  void run() override;
  TensorView output(std::string_view name) const override;

  /// As input(), but memory of the GPU, for kernels that fill it on stream(); the next run() does not copy this input.
  void* device_input(std::string_view name, const Shape& shape);

  /// The stream, a cudaStream_t, that run() works on.
  void* stream() const noexcept;

  /// Name and compute capability of the GPU, "Orin, SM87".
  const std::string& device() const noexcept;

  /// How many CUDA graphs were captured so far: one a shape.
  int graphs() const noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace edgefer
