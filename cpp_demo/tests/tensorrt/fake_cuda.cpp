#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "fake.hpp"

namespace fake {

State& state() {
  static State only;
  return only;
}

void submit(std::function<void()> work) {
  State& now = state();
  (now.recording != nullptr ? *now.recording : now.waiting).push_back(std::move(work));
}

namespace {

cudaError_t allocate(void** memory, std::size_t size) {
  if (state().allowed-- <= 0) return cudaErrorMemoryAllocation;
  ++state().live;
  *memory = std::malloc(size);
  std::memset(*memory, 0xEE, size);
  return cudaSuccess;
}

cudaError_t release(void* memory) {
  --state().live;
  std::free(memory);
  return cudaSuccess;
}

template <class Handle>
Handle handle(void* to) {
  ++state().live;
  return static_cast<Handle>(to);
}

}  // namespace
}  // namespace fake

using fake::state;

extern "C" {

const char* cudaGetErrorName(cudaError_t code) {
  return code == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "fault";
}
const char* cudaGetErrorString(cudaError_t) { return "a fake's fault"; }
cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = state().has_gpu ? 1 : 0;
  return state().has_gpu ? cudaSuccess : cudaErrorInsufficientDriver;
}

cudaError_t cudaGetDevice(int* index) {
  *index = 0;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::strcpy(properties->name, "Fake");
  properties->major = 8;
  properties->minor = 7;
  properties->integrated = state().integrated ? 1 : 0;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, std::size_t size) { return fake::allocate(memory, size); }
cudaError_t cudaHostAlloc(void** memory, std::size_t size, unsigned) { return fake::allocate(memory, size); }
cudaError_t cudaFree(void* memory) { return fake::release(memory); }
cudaError_t cudaFreeHost(void* memory) { return fake::release(memory); }

cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  *device = host;
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t size, cudaMemcpyKind, cudaStream_t) {
  fake::submit([=] {
    ++state().copies;
    std::memcpy(to, from, size);
  });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = fake::handle<cudaStream_t>(&state());
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t) {
  --state().live;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) {
  if (state().recording != nullptr) return cudaErrorStreamCaptureUnsupported;
  for (const auto& work : std::exchange(state().waiting, {})) work();
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  state().recording = new fake::Work();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  const std::unique_ptr<fake::Work> recorded(std::exchange(state().recording, nullptr));
  *graph = nullptr;
  if (!state().capturable) return cudaErrorStreamCaptureInvalidated;
  *graph = fake::handle<cudaGraph_t>(static_cast<void*>(new fake::Work(*recorded)));
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
  *made = fake::handle<cudaGraphExec_t>(static_cast<void*>(new fake::Work(*reinterpret_cast<fake::Work*>(graph))));
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
  ++state().launched;
  for (const auto& work : *reinterpret_cast<fake::Work*>(graph)) fake::submit(work);
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  --state().live;
  delete reinterpret_cast<fake::Work*>(graph);
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  --state().live;
  delete reinterpret_cast<fake::Work*>(graph);
  return cudaSuccess;
}

}  // extern "C"
