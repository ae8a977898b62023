#include "edgefer/tensorrt_session.hpp"

#include <NvInferRuntime.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <list>
#include <type_traits>
#include <utility>

#include "cuda_handles.hpp"
#include "edgefer/error.hpp"
#include "edgefer/notes.hpp"
#include "internal.hpp"
#include "tensorrt_support.hpp"

namespace edgefer {

using trt::check;

/// One execution context, the shapes it is set to, and their CUDA graph once there is one.
struct ExecutionContext {
  std::unique_ptr<nvinfer1::IExecutionContext> context;
  std::vector<Shape> shapes;
  std::vector<bool> on_device;  // inputs that somebody fills on the GPU
  cuda::GraphExec graph;
  bool ran = false;
};

class TensorRtSession::Impl {
 public:
  Impl(const std::filesystem::path& file, int dla_core, bool host_code)
      : device_(cuda::device()), device_text_(device_.text()), version_(trt::version()), stream_(cuda::make_stream()) {
    read_engine(file, dla_core, host_code);
    read_tensors();
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      buffers_.push_back(std::make_unique<cuda::Buffer>(trt::bytes_of(specs_[i], max_shapes_[i]), device_.integrated));
    }
    shapes_.resize(inputs_.size());
    on_device_.assign(inputs_.size(), false);
  }

  void* input(std::string_view name, const Shape& shape, bool on_device) {
    const std::size_t index = index_of(inputs_, name, "input");
    check_shape(inputs_[index], shape);
    trt::check_profile(shape, min_batch_, max_batch_);
    shapes_[index] = shape;
    on_device_[index] = on_device;
    return on_device ? buffers_[index]->device() : buffers_[index]->host();
  }

  void run() {
    for (std::size_t i = 0; i < shapes_.size(); ++i) {
      if (shapes_[i].empty()) throw Error("the input " + to_string(inputs_[i]) + " was not filled", "call input()");
    }
    ExecutionContext& one = context_for_shapes();
    if (one.graph) {
      cuda::check(cudaGraphLaunch(one.graph.get(), stream_.get()), "cudaGraphLaunch");
    } else if (one.ran && capturable_) {
      capture(one);
    } else {
      enqueue(one);  // the first run of a shape: TensorRT finishes setting it up, which a graph must not contain
    }
    cuda::check(cudaStreamSynchronize(stream_.get()), "cudaStreamSynchronize");
    one.ran = true;
  }

  TensorView output(std::string_view name) const {
    const std::size_t index = index_of(outputs_, name, "output");
    if (contexts_.empty() || !contexts_.front().ran) {
      throw Error("output '" + std::string(name) + "' was asked for before anything was run", "call run()");
    }
    return {outputs_[index].type, answer_shapes_[index], buffers_[inputs_.size() + index]->host()};
  }

  cuda::Device device_;
  std::string device_text_, version_;
  std::vector<TensorSpec> inputs_, outputs_;
  std::int64_t min_batch_ = 1, max_batch_ = 1;
  int graphs_ = 0;
  cudaStream_t stream() const noexcept { return stream_.get(); }

 private:
  void read_engine(const std::filesystem::path& file, int dla_core, [[maybe_unused]] bool host_code) {
    std::ifstream stream(file, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
    runtime_.reset(nvinfer1::createInferRuntime(trt::logger()));
    check(runtime_ != nullptr, "TensorRT " + version_ + " could not start");
    if (dla_core >= 0) {
      const std::int32_t found = runtime_->getNbDLACores();
      if (dla_core >= found) {
        throw Error(file.string() + " is for DLA core " + std::to_string(dla_core) + ", and TensorRT " + version_ +
                        " finds " + std::to_string(found) + " of them here",
                    "Orin NX and AGX Orin have two, Orin Nano and Thor none: build it again, or without --dla");
      }
      runtime_->setDLACore(dla_core);  // or it runs on core 0, whichever it was built for
    }
#if NV_TENSORRT_MAJOR * 100 + NV_TENSORRT_MINOR >= 806
    if (host_code) runtime_->setEngineHostCodeAllowed(true);  // or a version compatible engine is refused
#endif
    engine_.reset(runtime_->deserializeCudaEngine(bytes.data(), bytes.size()));
    check(engine_ != nullptr, "TensorRT " + version_ + " cannot load " + file.string());
  }

  /// Inputs come first in specs_, max_shapes_ and buffers_, then outputs.
  void read_tensors() {
    for (const auto mode : {nvinfer1::TensorIOMode::kINPUT, nvinfer1::TensorIOMode::kOUTPUT}) {
      for (std::int32_t i = 0; i < engine_->getNbIOTensors(); ++i) {
        const char* name = engine_->getIOTensorName(i);
        if (engine_->getTensorIOMode(name) != mode) continue;
        specs_.push_back(trt::spec_of(*engine_, name));
        (mode == nvinfer1::TensorIOMode::kINPUT ? inputs_ : outputs_).push_back(specs_.back());
      }
    }
    if (inputs_.empty() || outputs_.empty()) throw Error("the engine has no input or no output", "build it again");
    trt::read_profile(*engine_, inputs_[0], min_batch_, max_batch_);
    for (const TensorSpec& spec : specs_) {
      max_shapes_.push_back(spec.shape);
      for (std::int64_t& size : max_shapes_.back()) size = size < 0 ? max_batch_ : size;
    }
  }

  /// The context for the shapes that were asked for, which becomes the first of the contexts.
  ExecutionContext& context_for_shapes() {
    const auto same = [this](const ExecutionContext& one) {
      return one.shapes == shapes_ && one.on_device == on_device_;
    };
    const auto found = std::find_if(contexts_.begin(), contexts_.end(), same);
    if (found != contexts_.end()) {
      contexts_.splice(contexts_.begin(), contexts_, found);
    } else {
      if (contexts_.size() < trt::max_contexts()) {
        contexts_.push_front(make_context());
      } else {
        contexts_.splice(contexts_.begin(), contexts_, std::prev(contexts_.end()));  // the least recently used
      }
      set_shapes(contexts_.front());
    }
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      answer_shapes_[i] = answer_shape(i);
      if (trt::bytes_of(outputs_[i], answer_shapes_[i]) > buffers_[inputs_.size() + i]->bytes()) {
        throw Error("the engine's output " + to_string({outputs_[i].name, outputs_[i].type, answer_shapes_[i]}) +
                        " is larger than its profile says",
                    "export it with outputs that have a row for each input, and build it again");
      }
    }
    return contexts_.front();
  }

  ExecutionContext make_context() {
    ExecutionContext one;
    one.context.reset(engine_->createExecutionContext());
    check(one.context != nullptr, "TensorRT could not make an execution context; it needs more GPU memory");
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      const bool taken = one.context->setTensorAddress(specs_[i].name.c_str(), buffers_[i]->device());
      check(taken, "TensorRT did not take the memory of " + to_string(specs_[i]));
    }
    return one;
  }

  void set_shapes(ExecutionContext& one) {
    one.graph.reset();
    one.ran = false;
    one.shapes.clear();  // until all are set: a failure must not look like a context that fits
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const bool taken = one.context->setInputShape(inputs_[i].name.c_str(), trt::dims_of(shapes_[i]));
      check(taken, "TensorRT did not take " + to_string({inputs_[i].name, inputs_[i].type, shapes_[i]}));
    }
    one.shapes = shapes_;
    one.on_device = on_device_;
    answer_shapes_.resize(outputs_.size());
  }

  Shape answer_shape(std::size_t index) const {
    return trt::shape_of(contexts_.front().context->getTensorShape(outputs_[index].name.c_str()));
  }

  /// Copies in, kernels, copies out, in order on the stream.
  void enqueue(const ExecutionContext& one) {
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      if (!on_device_[i]) buffers_[i]->upload(trt::bytes_of(inputs_[i], shapes_[i]), stream_.get());
    }
    check(one.context->enqueueV3(stream_.get()), "TensorRT " + version_ + " could not run the engine");
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      buffers_[inputs_.size() + i]->download(trt::bytes_of(outputs_[i], answer_shapes_[i]), stream_.get());
    }
  }

  /// Record what enqueue() does, and launch it. An engine that cannot be recorded goes on without a graph, announced.
  void capture(ExecutionContext& one) {
    cuda::check(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    std::string fault;
    try {
      enqueue(one);
    } catch (const Error& error) {
      fault = error.message();
    }
    cudaGraph_t recorded = nullptr;
    const cudaError_t ended = cudaStreamEndCapture(stream_.get(), &recorded);
    const cuda::Graph graph(recorded);
    cudaGraphExec_t made = nullptr;
    if (fault.empty() && ended == cudaSuccess) {
      cuda::check(cudaGraphInstantiateWithFlags(&made, graph.get(), 0), "cudaGraphInstantiateWithFlags");
      one.graph.reset(made);
      ++graphs_;
      cuda::check(cudaGraphLaunch(one.graph.get(), stream_.get()), "cudaGraphLaunch");
      return;
    }
    capturable_ = false;
    cudaGetLastError();  // the failed capture's, which would be taken for the next call's
    announce("the engine cannot be a CUDA graph (" + (fault.empty() ? cudaGetErrorString(ended) : fault) +
             "); it runs kernel by kernel");
    enqueue(one);
  }

  cuda::Stream stream_;
  // Destroyed from the last to the first: contexts, then what they point to, then engine and runtime.
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::vector<TensorSpec> specs_;
  std::vector<Shape> max_shapes_, shapes_, answer_shapes_;
  std::vector<bool> on_device_;
  std::vector<std::unique_ptr<cuda::Buffer>> buffers_;
  std::list<ExecutionContext> contexts_;
  bool capturable_ = true;
};

TensorRtSession::TensorRtSession(const std::filesystem::path& engine, int dla_core, bool host_code)
    : impl_(std::make_unique<Impl>(engine, dla_core, host_code)) {}
TensorRtSession::~TensorRtSession() = default;
const std::string& TensorRtSession::version() const noexcept { return impl_->version_; }
const std::vector<TensorSpec>& TensorRtSession::inputs() const noexcept { return impl_->inputs_; }
const std::vector<TensorSpec>& TensorRtSession::outputs() const noexcept { return impl_->outputs_; }
std::int64_t TensorRtSession::min_batch() const noexcept { return impl_->min_batch_; }
std::int64_t TensorRtSession::max_batch() const noexcept { return impl_->max_batch_; }
void* TensorRtSession::input(std::string_view name, const Shape& shape) { return impl_->input(name, shape, false); }
void TensorRtSession::run() { impl_->run(); }
TensorView TensorRtSession::output(std::string_view name) const { return impl_->output(name); }
void* TensorRtSession::stream() const noexcept { return impl_->stream(); }
const std::string& TensorRtSession::device() const noexcept { return impl_->device_text_; }
int TensorRtSession::graphs() const noexcept { return impl_->graphs_; }

void* TensorRtSession::device_input(std::string_view name, const Shape& shape) {
  return impl_->input(name, shape, true);
}

std::unique_ptr<Session> open_tensorrt(const std::filesystem::path& engine, const SessionOptions& options) {
  return std::make_unique<TensorRtSession>(engine, options.dla_core, options.host_code);
}

void check_tensorrt_place(const std::filesystem::path& engine, const Manifest& manifest) {
  const std::string again =
      "an engine is good for the TensorRT and the GPU that built it: build it again here, `edgefer build-engine "
      "model.onnx --target tensorrt -o x.engine`";
  const auto portable = [&manifest](const char* what) {
    return std::find(manifest.portable.begin(), manifest.portable.end(), what) != manifest.portable.end();
  };
  const std::string here = trt::version();
  const bool later = portable("version") && trt::loads(manifest.runtime_version, here);
  if (!later && !trt::same_version(manifest.runtime_version, here)) {
    throw Error(engine.string() + " was built with TensorRT " + manifest.runtime_version + ", and " + here +
                    " is installed here",
                again);
  }
  const cuda::Device gpu = cuda::device();
  // NvInfer.h, HardwareCompatibilityLevel::kAMPERE_PLUS: every GPU from SM80 on, and no Jetson
  const bool ampere = !gpu.integrated && std::stoi(gpu.capability.substr(2)) >= 80;
  if (manifest.device != gpu.text() && !(portable("hardware") && ampere)) {
    throw Error(engine.string() + " was built for " + manifest.device + ", and this GPU is " + gpu.text(), again);
  }
}

}  // namespace edgefer
