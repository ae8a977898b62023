#include "tensorrt_support.hpp"

#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include "edgefer/error.hpp"

namespace edgefer::trt {
namespace {

constexpr std::size_t longest_log = 2000;

/// Library version as a number: major·1000 + minor·100 + patch up to 9, major·10000 + minor·100 + patch from 10 on.
int loaded() { return getInferLibVersion(); }

Type type_of(nvinfer1::DataType type, const std::string& name) {
  switch (static_cast<int>(type)) {  // by number: INT64 has a name from TensorRT 10 on only
    case 0:
      return Type::f32;
    case 1:
      return Type::f16;
    case 2:
      return Type::i8;
    case 3:
      return Type::i32;
    case 4:
      return Type::boolean;
    case 5:
      return Type::u8;
    case 8:
      return Type::i64;
    default:
      throw Error("the engine's tensor '" + name + "' has a type that is not supported",
                  "build it with float32 tensors");
  }
}

std::vector<int> numbers(const std::string& text) {
  std::vector<int> found(1, 0);
  for (const char letter : text) {
    if (letter == '.') {
      found.push_back(0);
    } else if (letter >= '0' && letter <= '9') {
      found.back() = found.back() * 10 + (letter - '0');
    } else {
      break;  // "8.6.1.post1"
    }
  }
  found.resize(3, 0);
  return found;
}

}  // namespace

void Logger::log(Severity severity, const char* message) noexcept {
  if (severity > Severity::kERROR) return;
  try {
    const std::lock_guard<std::mutex> lock(mutex_);
    errors_ += (errors_.empty() ? "" : " · ") + std::string(message);
    if (errors_.size() > longest_log) errors_.erase(0, errors_.size() - longest_log);
  } catch (const std::exception&) {  // no memory, or no lock: the message is lost
  }
}

std::string Logger::reason() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return errors_.empty() ? "its log has no error" : std::exchange(errors_, {});
}

Logger& logger() {
  static Logger* const one = new Logger();
  return *one;
}

void check(bool fine, const std::string& what) {
  if (fine) return;
  throw Error(what + ": " + logger().reason(),
              "an engine is good for the TensorRT and the GPU that built it: build it again here");
}

std::string version() {
  const int number = loaded(), unit = number >= 10000 ? 10000 : 1000;
  return std::to_string(number / unit) + "." + std::to_string(number % unit / 100) + "." + std::to_string(number % 100);
}

bool same_version(const std::string& manifest, const std::string& here) { return numbers(manifest) == numbers(here); }

bool loads(const std::string& built, const std::string& here) {
  const std::vector<int> old = numbers(built), now = numbers(here);
  if (old < std::vector<int>{8, 6, 0}) return false;
  const bool next = (old[0] == 8 && now[0] == 10) || (old[0] == 10 && now[0] == 11);
  return next || (old[0] == now[0] && old <= now);
}

std::size_t max_contexts() { return loaded() >= 100000 ? 4 : 1; }

TensorSpec spec_of(const nvinfer1::ICudaEngine& engine, const char* name) {
  TensorSpec spec{name, type_of(engine.getTensorDataType(name), name), shape_of(engine.getTensorShape(name))};
  const auto is_free = [](std::int64_t size) { return size < 0; };
  if (spec.shape.size() > 1 && std::any_of(spec.shape.begin() + 1, spec.shape.end(), is_free)) {
    throw Error("the engine's tensor " + to_string(spec) + " has a free size beside its batch, which has no memory",
                "build it with one size: the same in trtexec's --minShapes, --optShapes and --maxShapes");
  }
  return spec;
}

void read_profile(const nvinfer1::ICudaEngine& engine, const TensorSpec& first, std::int64_t& min_batch,
                  std::int64_t& max_batch) {
  if (first.shape.empty()) throw Error("the engine's input " + to_string(first) + " has no batch", "build it again");
  min_batch = max_batch = first.shape[0];
  if (min_batch >= 0) return;
  const auto side = [&](nvinfer1::OptProfileSelector which) {
    return static_cast<std::int64_t>(engine.getProfileShape(first.name.c_str(), 0, which).d[0]);
  };
  min_batch = side(nvinfer1::OptProfileSelector::kMIN);
  max_batch = side(nvinfer1::OptProfileSelector::kMAX);
  if (min_batch < 1 || max_batch < min_batch)
    throw Error("the engine has no profile for " + to_string(first), "build it again");
}

void check_profile(const Shape& shape, std::int64_t min_batch, std::int64_t max_batch) {
  if (shape[0] >= min_batch && shape[0] <= max_batch) return;
  const std::string built =
      min_batch == max_batch ? std::to_string(max_batch) : std::to_string(min_batch) + "…" + std::to_string(max_batch);
  throw Error("a batch of " + std::to_string(shape[0]) + " is outside the engine's profile, " + built,
              "feed " + std::to_string(max_batch) + " at a time, or build it again with --max-batch or --min-batch");
}

std::size_t bytes_of(const TensorSpec& spec, const Shape& shape) {
  std::size_t bytes = size_of(spec.type);
  for (const std::int64_t size : shape) bytes *= static_cast<std::size_t>(size);
  return std::max<std::size_t>(bytes, 1);
}

Shape shape_of(const nvinfer1::Dims& dims) { return Shape(dims.d, dims.d + std::max(dims.nbDims, 0)); }

nvinfer1::Dims dims_of(const Shape& shape) {
  nvinfer1::Dims dims{};
  dims.nbDims = static_cast<std::int32_t>(shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) {
    dims.d[i] = static_cast<std::remove_reference_t<decltype(dims.d[0])>>(shape[i]);
  }
  return dims;
}

}  // namespace edgefer::trt
