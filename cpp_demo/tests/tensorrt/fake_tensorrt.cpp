#include <cstring>
#include <map>
#include <memory>
#include <string>

#include "bases.hpp"
#include "fake.hpp"

// An engine from uint8 faces N×2×2×1 to logits N×3: the sum of the pixels, twice that, and N.

namespace {

using nvinfer1::Dims;
using namespace nvinfer1::apiv;

int contexts = 0;

Dims dims(std::initializer_list<long> sizes) {
  Dims made{};
  for (const long size : sizes) made.d[made.nbDims++] = static_cast<std::remove_reference_t<decltype(made.d[0])>>(size);
  return made;
}

/// What TensorRT's own classes are: a face over an implementation.
template <class Face, class Implementation>
struct Owner final : Face {
  template <class... Arguments>
  explicit Owner(Arguments... arguments) : implementation(arguments...) {
    this->mImpl = &implementation;
    ++fake::state().live;
  }
  ~Owner() noexcept override { --fake::state().live; }
  Implementation implementation;
};

struct Context final : EndingVExecutionContext {
  std::map<std::string, void*> addresses;
  long batch = 0;
  bool settled = false;  // enqueued once since the shape was set: only then may it be recorded

  Context() { ++contexts; }
  ~Context() noexcept override { --contexts; }

  bool setTensorAddress(char const* name, void* data) noexcept override { return (addresses[name] = data) != nullptr; }

  bool setInputShape(char const*, Dims const& shape) noexcept override {
    if (fake::state().version < 100000 && contexts > 1) return false;  // one context a profile
    batch = static_cast<long>(shape.d[0]);
    settled = false;
    return shape.nbDims == 4;
  }

  Dims getTensorShape(char const* name) const noexcept override {
    return std::strcmp(name, "faces") == 0 ? dims({batch, 2, 2, 1}) : dims({batch * fake::state().rows, 3});
  }

  bool enqueueV3(cudaStream_t) noexcept override {
    if (fake::state().recording != nullptr && !settled) return false;
    settled = true;
    ++fake::state().enqueued;
    const auto* faces = static_cast<const unsigned char*>(addresses.at("faces"));
    auto* logits = static_cast<float*>(addresses.at("logits"));
    fake::submit([faces, logits, count = batch] {
      for (long face = 0; face < count; ++face) {
        float sum = 0.0F;
        for (int i = 0; i < 4; ++i) sum += faces[face * 4 + i];
        logits[face * 3] = sum;
        logits[face * 3 + 1] = 2.0F * sum;
        logits[face * 3 + 2] = static_cast<float>(count);
      }
    });
    return true;
  }
};

struct Engine final : EndingVCudaEngine {
  int32_t getNbIOTensors() const noexcept override { return 2; }
  char const* getIOTensorName(int32_t index) const noexcept override { return index == 0 ? "logits" : "faces"; }
  Dims getTensorShape(char const* name) const noexcept override {
    const long side = fake::state().side;
    return std::strcmp(name, "faces") == 0 ? dims({-1, side, side, 1}) : dims({-1, 3});
  }
  nvinfer1::DataType getTensorDataType(char const* name) const noexcept override {
    return std::strcmp(name, "faces") == 0 ? nvinfer1::DataType::kUINT8 : nvinfer1::DataType::kFLOAT;
  }
  nvinfer1::TensorIOMode getTensorIOMode(char const* name) const noexcept override {
    return std::strcmp(name, "faces") == 0 ? nvinfer1::TensorIOMode::kINPUT : nvinfer1::TensorIOMode::kOUTPUT;
  }
  Dims getProfileShape(char const*, int32_t, nvinfer1::OptProfileSelector which) const noexcept override {
    return dims(
        {which == nvinfer1::OptProfileSelector::kMIN ? fake::state().min_batch : fake::state().max_batch, 2, 2, 1});
  }
#if NV_TENSORRT_MAJOR >= 10
  nvinfer1::IExecutionContext* createExecutionContext(nvinfer1::ExecutionContextAllocationStrategy) noexcept override{
#else
  nvinfer1::IExecutionContext* createExecutionContext() noexcept override {
#endif
      return new Owner<nvinfer1::IExecutionContext, Context>();
}
};  // namespace

struct Runtime final : EndingVRuntime {
  nvinfer1::ILogger* logger;
  explicit Runtime(nvinfer1::ILogger* to) : logger(to) {}

  int32_t getNbDLACores() const noexcept override { return fake::state().dla_cores; }
  void setDLACore(int32_t core) noexcept override { fake::state().dla_core = core; }
#if NV_TENSORRT_MAJOR * 100 + NV_TENSORRT_MINOR >= 806
  void setEngineHostCodeAllowed(bool allowed) noexcept override { fake::state().host_code = allowed; }
#endif

#if NV_TENSORRT_MAJOR >= 10
  nvinfer1::ICudaEngine* deserializeCudaEngine(void const* bytes, std::size_t size) noexcept override{
#else
  nvinfer1::ICudaEngine* deserializeCudaEngine(void const* bytes, std::size_t size,
                                               nvinfer1::IPluginFactory*) noexcept override {
#endif
      const std::string content(static_cast<const char*>(bytes), size);
      if (content == "an engine" || (content == "an engine with code" && fake::state().host_code)) {
        return new Owner<nvinfer1::ICudaEngine, Engine>();
} logger->log(nvinfer1::ILogger::Severity::kWARNING, "not worth a word");
logger->log(nvinfer1::ILogger::Severity::kERROR, "magicTag does not match");
return nullptr;
}
}
;

}  // namespace

extern "C" void* createInferRuntime_INTERNAL(void* logger, int32_t) noexcept {
  return new Owner<nvinfer1::IRuntime, Runtime>(static_cast<nvinfer1::ILogger*>(logger));
}

extern "C" int32_t getInferLibVersion() noexcept { return fake::state().version; }
