// OpenVINO on the CPU, with the precision that it is asked for and no other.

#include <algorithm>
#include <list>
#include <map>
#include <openvino/openvino.hpp>
#include <utility>

#include "edgefer/error.hpp"
#include "internal.hpp"

namespace edgefer {
namespace {

constexpr std::size_t kept_shapes = 4;  // compiled networks kept, the least recently used given up first

/// One Core a process, never destroyed: each one that goes away unloads OpenVINO's plugins, and loading them again can
/// crash.
ov::Core& core() {
  static ov::Core* const only = new ov::Core();
  return *only;
}

/// What OpenVINO says of a fault: its last line; those above it are its own source files.
std::string reason(const std::exception& cause) {
  const std::string text = cause.what();
  const std::size_t end = text.find_last_not_of(" \n\r\t");
  if (end == std::string::npos) return "it does not say why";
  const std::size_t begin = text.find_last_of('\n', end);
  return text.substr(begin == std::string::npos ? 0 : begin + 1,
                     end - (begin == std::string::npos ? 0 : begin + 1) + 1);
}

Type type_of(const ov::element::Type& type, const std::string& name) {
  if (type == ov::element::u8) return Type::u8;
  if (type == ov::element::i8) return Type::i8;
  if (type == ov::element::i32) return Type::i32;
  if (type == ov::element::i64) return Type::i64;
  if (type == ov::element::f16) return Type::f16;
  if (type == ov::element::f32) return Type::f32;
  if (type == ov::element::boolean) return Type::boolean;
  throw Error("the network's tensor '" + name + "' is " + type.get_type_name() + ", which is not supported",
              "export it with float32 or uint8 tensors");
}

TensorSpec spec_of(const ov::Output<const ov::Node>& port) {
  TensorSpec spec{port.get_any_name(), Type::f32, {}};
  spec.type = type_of(port.get_element_type(), spec.name);
  for (const ov::Dimension& size : port.get_partial_shape()) {
    spec.shape.push_back(size.is_dynamic() ? -1 : size.get_length());
  }
  return spec;
}

class OpenVinoSession final : public Session {
 public:
  OpenVinoSession(const std::filesystem::path& model, const SessionOptions& options) try
      : model_(core().read_model(model.string())) {
    const bool bf16 = ("+" + options.precision + "+").find("+bf16+") != std::string::npos;
    if (bf16) check_bfloat16();
    version_ = ov::get_openvino_version().buildNumber;
    version_ = version_.substr(0, version_.find('-'));
    settings_ = {ov::hint::inference_precision(bf16 ? ov::element::bf16 : ov::element::f32),
                 ov::inference_num_threads(options.threads), ov::num_streams(1),
                 ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY)};
    for (const auto& port : std::as_const(*model_).inputs()) inputs_.push_back(spec_of(port));
    for (const auto& port : std::as_const(*model_).outputs()) outputs_.push_back(spec_of(port));
    feeds_.resize(inputs_.size());
  } catch (const Error&) {
    throw;
  } catch (const std::exception& cause) {
    throw Error("OpenVINO refuses " + model.string() + ": " + reason(cause),
                "the file is damaged or uses operators this version lacks; build it again or upgrade OpenVINO");
  }

  const char* runtime() const noexcept override { return "openvino"; }
  const std::string& version() const noexcept override { return version_; }
  const std::vector<TensorSpec>& inputs() const noexcept override { return inputs_; }
  const std::vector<TensorSpec>& outputs() const noexcept override { return outputs_; }
  std::int64_t min_batch() const noexcept override { return max_batch() < 0 ? 1 : max_batch(); }
  std::int64_t max_batch() const noexcept override {
    return inputs_.empty() || inputs_[0].shape.empty() ? -1 : inputs_[0].shape[0];
  }

  std::string metadata(const std::string& key) const override {
    const std::vector<std::string> path = {"framework", key};
    return model_->has_rt_info(path) ? model_->get_rt_info<std::string>(path) : std::string();
  }

  void* input(std::string_view name, const Shape& shape) override {
    const std::size_t index = index_of(inputs_, name, "input");
    check_shape(inputs_[index], shape);
    ov::Tensor& feed = feeds_[index];
    const ov::Shape wanted(shape.begin(), shape.end());
    if (!feed || feed.get_shape() != wanted) {
      feed = ov::Tensor(std::as_const(*model_).input(index).get_element_type(), wanted);
    }
    return feed.data();
  }

  void run() override try {
    std::vector<ov::PartialShape> shapes;
    for (std::size_t i = 0; i < feeds_.size(); ++i) {
      if (!feeds_[i])
        throw Error("the input " + to_string(inputs_[i]) + " was not filled", "call input() for each one");
      shapes.emplace_back(feeds_[i].get_shape());
    }
    ov::InferRequest& request = request_for(shapes);
    for (std::size_t i = 0; i < feeds_.size(); ++i) request.set_input_tensor(i, feeds_[i]);
    request.infer();
    ran_ = true;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& cause) {
    throw Error("OpenVINO " + version_ + " could not run the network: " + reason(cause));
  }

  TensorView output(std::string_view name) const override {
    const std::size_t index = index_of(outputs_, name, "output");
    if (!ran_) throw Error("output '" + std::string(name) + "' was asked for before anything was run", "call run()");
    const ov::Tensor tensor = compiled_.front().request.get_output_tensor(index);
    const ov::Shape& shape = tensor.get_shape();
    return {outputs_[index].type, Shape(shape.begin(), shape.end()), tensor.data()};
  }

 private:
  /// The network compiled for one set of shapes: then OpenVINO plans memory and chooses kernels once, which on small
  /// networks is faster than a free batch.
  struct Compiled {
    std::vector<ov::PartialShape> shapes;
    mutable ov::InferRequest request;  // asking for a tensor is not const there
  };

  static void check_bfloat16() {
    const auto able = core().get_property("CPU", ov::device::capabilities);
    if (std::find(able.begin(), able.end(), ov::device::capability::BF16) != able.end()) return;
    throw Error("this CPU has no bfloat16 arithmetic", "build the engine with --fp32 or --int8");
  }

  /// The request for `shapes`, which becomes the first of the compiled ones.
  ov::InferRequest& request_for(const std::vector<ov::PartialShape>& shapes) {
    const auto same = [&](const Compiled& one) { return one.shapes == shapes; };
    const auto found = std::find_if(compiled_.begin(), compiled_.end(), same);
    if (found != compiled_.end()) {
      compiled_.splice(compiled_.begin(), compiled_, found);
      return compiled_.front().request;
    }
    if (compiled_.size() == kept_shapes) compiled_.pop_back();
    const std::shared_ptr<ov::Model> shaped = model_->clone();
    std::map<std::size_t, ov::PartialShape> by_index;
    for (std::size_t i = 0; i < shapes.size(); ++i) by_index[i] = shapes[i];
    shaped->reshape(by_index);
    compiled_.push_front({shapes, core().compile_model(shaped, "CPU", settings_).create_infer_request()});
    return compiled_.front().request;
  }

  std::shared_ptr<ov::Model> model_;
  std::string version_;
  ov::AnyMap settings_;
  std::vector<TensorSpec> inputs_, outputs_;
  std::vector<ov::Tensor> feeds_;
  std::list<Compiled> compiled_;
  bool ran_ = false;
};

}  // namespace

std::unique_ptr<Session> open_openvino(const std::filesystem::path& model, const SessionOptions& options) {
  if (options.threads < 1) throw Error("threads is 1 or more, not " + std::to_string(options.threads));
  return std::make_unique<OpenVinoSession>(model, options);
}

}  // namespace edgefer
