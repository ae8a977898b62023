// The kernel that cuts faces, behind one C function for benchmarks/gpu_smoke.py: host memory in, host memory out.
#include <cuda_runtime_api.h>

#include <string>
#include <vector>

#include "cuda_handles.hpp"
#include "edgefer/cuda_faces.hpp"

namespace {

using edgefer::cuda::check;

void cut(const edgefer::Image& image, std::size_t bytes, const edgefer::Contract& contract,
         const std::vector<edgefer::Box>& boxes, std::uint8_t* faces) {
  const edgefer::cuda::Stream stream = edgefer::cuda::make_stream();
  const edgefer::cuda::Buffer picture(bytes, false), found(boxes.size() * contract.face_bytes(), false);
  std::copy(image.data, image.data + bytes, static_cast<std::uint8_t*>(picture.host()));
  picture.upload(bytes, stream.get());
  edgefer::Image there = image;
  there.data = static_cast<const std::uint8_t*>(picture.device());
  auto* const out = static_cast<std::uint8_t*>(found.device());
  edgefer::prepare_on_gpu(there, contract, boxes.data(), boxes.size(), out, stream.get());
  found.download(found.bytes(), stream.get());
  check(cudaStreamSynchronize(stream.get()), "cudaStreamSynchronize");
  const auto* const host = static_cast<const std::uint8_t*>(found.host());
  std::copy(host, host + found.bytes(), faces);
}

}  // namespace

/// Cut `count` boxes (x, y, width, height each) out of a grey or RGB picture. Returns an error, or null.
extern "C" const char* cut_on_gpu(const std::uint8_t* image, int height, int width, int channels, const double* boxes,
                                  int count, double margin, int size, int face_channels, std::uint8_t* faces) {
  static std::string error;
  try {
    edgefer::Image picture;
    picture.data = image;
    picture.width = width;
    picture.height = height;
    picture.stride = static_cast<std::ptrdiff_t>(width) * channels;
    picture.format = channels == 1 ? edgefer::Format::grey : edgefer::Format::rgb;
    edgefer::Contract contract;
    contract.height = contract.width = size;
    contract.channels = face_channels;
    contract.crop_margin = margin;
    std::vector<edgefer::Box> all;
    for (int i = 0; i < count; ++i) all.push_back({boxes[4 * i], boxes[4 * i + 1], boxes[4 * i + 2], boxes[4 * i + 3]});
    cut(picture, static_cast<std::size_t>(height) * width * channels, contract, all, faces);
    return nullptr;
  } catch (const std::exception& fault) {
    error = fault.what();
    return error.c_str();
  }
}
