#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <string>

#include "edgefer/error.hpp"

// An owner for everything that CUDA gives and wants back. Nothing here throws while something is freed.

namespace edgefer::cuda {

/// Throws Error where `code` is not success; for memory, with what to lower.
inline void check(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return;
  throw Error(
      std::string("CUDA failed: ") + call + " returned " + cudaGetErrorName(code) + ", " + cudaGetErrorString(code),
      code == cudaErrorMemoryAllocation ? "build with a smaller --max-batch, or stop what else uses the GPU"
                                        : "`nvidia-smi`, or on a Jetson `tegrastats`, says more");
}

struct Destroy {
  void operator()(cudaStream_t stream) const noexcept { cudaStreamDestroy(stream); }
  void operator()(cudaGraph_t graph) const noexcept { cudaGraphDestroy(graph); }
  void operator()(cudaGraphExec_t graph) const noexcept { cudaGraphExecDestroy(graph); }
};

template <class Handle>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy>;

using Stream = Owned<cudaStream_t>;
using Graph = Owned<cudaGraph_t>;
using GraphExec = Owned<cudaGraphExec_t>;

/// A stream that does not wait for the default one. Throws Error.
inline Stream make_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return Stream(stream);
}

/// The GPU that is used: its name, compute capability ("SM87") and whether it shares its memory with the CPU.
struct Device {
  std::string name;
  std::string capability;
  bool integrated = false;

  std::string text() const { return name + ", " + capability; }
};

/// The current GPU. Throws Error: there is no driver or no GPU; asked before TensorRT, which crashes without one.
inline Device device() {
  int count = 0, index = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code != cudaSuccess || count == 0) {
    throw Error(std::string("there is no NVIDIA GPU here that CUDA can use: ") + cudaGetErrorString(code),
                "in a container, run it with --gpus all or --runtime nvidia; `nvidia-smi` says more");
  }
  check(cudaGetDevice(&index), "cudaGetDevice");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  return {properties.name, "SM" + std::to_string(properties.major) + std::to_string(properties.minor),
          properties.integrated != 0};
}

/// Memory for one tensor, on both sides, allocated once.
///
/// On a GPU with its own memory: device memory, and pinned host memory that is copied without staging. On an integrated
/// one, a Jetson's: one piece of pinned memory that both see, and no copy.
class Buffer {
 public:
  /// Throws Error: there is not so much memory.
  Buffer(std::size_t bytes, bool shared) : bytes_(bytes), shared_(shared) {
    void* memory = nullptr;
    check(cudaHostAlloc(&memory, bytes, shared ? cudaHostAllocMapped : cudaHostAllocDefault), "cudaHostAlloc");
    host_.reset(memory);
    if (shared) {
      check(cudaHostGetDevicePointer(&device_, memory, 0), "cudaHostGetDevicePointer");
    } else {
      check(cudaMalloc(&device_, bytes), "cudaMalloc");
      own_.reset(device_);
    }
  }

  void* host() const noexcept { return host_.get(); }
  void* device() const noexcept { return device_; }

  /// Put the copy of the first `bytes` to the device on `stream`; nothing where memory is shared.
  void upload(std::size_t bytes, cudaStream_t stream) const {
    if (!shared_) check(cudaMemcpyAsync(device_, host(), bytes, cudaMemcpyHostToDevice, stream), "cudaMemcpyAsync");
  }

  /// Likewise, back to the host.
  void download(std::size_t bytes, cudaStream_t stream) const {
    if (!shared_) check(cudaMemcpyAsync(host(), device_, bytes, cudaMemcpyDeviceToHost, stream), "cudaMemcpyAsync");
  }

  std::size_t bytes() const noexcept { return bytes_; }

 private:
  struct FreeHost {
    void operator()(void* memory) const noexcept { cudaFreeHost(memory); }
  };
  struct FreeDevice {
    void operator()(void* memory) const noexcept { cudaFree(memory); }
  };

  std::size_t bytes_;
  bool shared_;
  std::unique_ptr<void, FreeHost> host_;
  std::unique_ptr<void, FreeDevice> own_;
  void* device_ = nullptr;
};

}  // namespace edgefer::cuda
