#include "edgefer/session.hpp"

#include <fstream>

#include "edgefer/error.hpp"
#include "internal.hpp"

namespace edgefer {

std::size_t size_of(Type type) noexcept {
  switch (type) {
    case Type::u8:
    case Type::i8:
    case Type::boolean:
      return 1;
    case Type::f16:
      return 2;
    case Type::i32:
    case Type::f32:
      return 4;
    case Type::i64:
      return 8;
  }
  return 0;
}

const char* name_of(Type type) noexcept {
  switch (type) {
    case Type::u8:
      return "uint8";
    case Type::i8:
      return "int8";
    case Type::i32:
      return "int32";
    case Type::i64:
      return "int64";
    case Type::f16:
      return "float16";
    case Type::f32:
      return "float32";
    case Type::boolean:
      return "bool";
  }
  return "?";
}

std::string to_string(const TensorSpec& spec) {
  std::string text = "'" + spec.name + "' " + name_of(spec.type) + " ";
  for (std::size_t i = 0; i < spec.shape.size(); ++i) {
    text += (i > 0 ? "×" : "") + (spec.shape[i] < 0 ? std::string("N") : std::to_string(spec.shape[i]));
  }
  return text;
}

std::size_t index_of(const std::vector<TensorSpec>& specs, std::string_view name, const char* kind) {
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (specs[i].name == name) return i;
  }
  std::string known;
  for (const TensorSpec& spec : specs) known += (known.empty() ? "" : ", ") + to_string(spec);
  throw Error("the network has no " + std::string(kind) + " '" + std::string(name) + "'", "it has " + known);
}

void check_shape(const TensorSpec& spec, const Shape& shape) {
  bool fits = spec.shape.size() == shape.size();
  for (std::size_t i = 0; fits && i < shape.size(); ++i) {
    fits = shape[i] > 0 && (spec.shape[i] < 0 || spec.shape[i] == shape[i]);
  }
  if (!fits) throw Error("the network takes " + to_string(spec) + ", not " + to_string({spec.name, spec.type, shape}));
}

std::vector<std::string> runtimes() {
  std::vector<std::string> built;
#ifdef EDGEFER_OPENVINO
  built.emplace_back("openvino");
#endif
#ifdef EDGEFER_TENSORRT
  built.emplace_back("tensorrt");
#endif
  return built;
}

void check_runtime(const std::string& runtime, const std::string& what) {
  std::string here;
  for (const std::string& one : runtimes()) {
    if (one == runtime) return;
    here += (here.empty() ? "" : " and ") + one;
  }
  throw Error(what + " is for " + runtime + ", which this build of the library does not have: it has " +
                  (here.empty() ? "no runtime at all" : here),
              runtime == "onnxruntime"
                  ? "build the engine with `edgefer build-engine … --runtime openvino`"
                  : "build the library where " + runtime + " is installed; CMake says what it found");
}

std::unique_ptr<Session> open_session(const std::string& runtime, const std::filesystem::path& model,
                                      [[maybe_unused]] const SessionOptions& options) {
  check_runtime(runtime, model.string());
  if (!std::ifstream(model, std::ios::binary)) throw Error(model.string() + " cannot be opened", "check the path");
#ifdef EDGEFER_OPENVINO
  if (runtime == "openvino") return open_openvino(model, options);
#endif
#ifdef EDGEFER_TENSORRT
  if (runtime == "tensorrt") return open_tensorrt(model, options);
#endif
  throw Error("there is no runtime " + runtime);  // check_runtime() knows better
}

}  // namespace edgefer
