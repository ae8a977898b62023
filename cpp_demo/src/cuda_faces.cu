#include <cuda_runtime_api.h>

#include <algorithm>

#include "cuda_handles.hpp"
#include "edgefer/cuda_faces.hpp"
#include "edgefer/face_pixel.hpp"

namespace edgefer {
namespace {

constexpr std::size_t at_once = 32;  // windows that travel as the kernel's argument: no memory, no copy

struct Windows {
  pixel::Window each[at_once];
};

struct FaceSize {
  int width, height, channels;
};

/// One thread per pixel, one layer of the grid per face.
__global__ void cut_faces(Image image, Windows windows, FaceSize size, std::uint8_t* faces) {
  const int column = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int row = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
  if (column >= size.width || row >= size.height) return;
  const std::size_t pixels = static_cast<std::size_t>(size.width) * size.height;
  std::uint8_t* const face = faces + blockIdx.z * pixels * size.channels;
  const std::size_t at = (static_cast<std::size_t>(row) * size.width + column) * size.channels;
  pixel::face(image, windows.each[blockIdx.z], row, column, size.channels, face + at);
}

unsigned blocks(int size, unsigned threads) { return (static_cast<unsigned>(size) + threads - 1) / threads; }

}  // namespace

void prepare_on_gpu(const Image& image, const Contract& contract, const Box* boxes, std::size_t count,
                    std::uint8_t* faces, void* stream) {
  const dim3 threads(16, 16);
  const FaceSize size{contract.width, contract.height, contract.channels};
  for (std::size_t done = 0; done < count; done += at_once) {
    const std::size_t now = std::min(at_once, count - done);
    Windows windows;
    for (std::size_t i = 0; i < now; ++i) windows.each[i] = window_of(image, contract, boxes[done + i]);
    const dim3 grid(blocks(size.width, threads.x), blocks(size.height, threads.y), static_cast<unsigned>(now));
    cut_faces<<<grid, threads, 0, static_cast<cudaStream_t>(stream)>>>(image, windows, size,
                                                                       faces + done * contract.face_bytes());
    cuda::check(cudaGetLastError(), "cut_faces");
  }
}

}  // namespace edgefer
