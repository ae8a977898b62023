#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace edgefer {

/// Type of a tensor's elements.
enum class Type { u8, i8, i32, i64, f16, f32, boolean };

std::size_t size_of(Type type) noexcept;  ///< Bytes of one element.
const char* name_of(Type type) noexcept;  ///< NumPy's name of it: "uint8", "float32", ….

using Shape = std::vector<std::int64_t>;

/// One input or output; a size of −1 is free.
struct TensorSpec {
  std::string name;
  Type type = Type::f32;
  Shape shape;
};

std::string to_string(const TensorSpec& spec);  ///< `'faces' uint8 N×48×48×1`.

/// What a session answered. The memory is the session's and holds until its next input() or run().
struct TensorView {
  Type type = Type::f32;
  Shape shape;
  const void* data = nullptr;

  std::size_t size() const noexcept {
    std::size_t product = 1;
    for (const std::int64_t extent : shape) product *= static_cast<std::size_t>(extent);
    return product;
  }
  /// The elements; the caller asks for the type that `type` says.
  template <class T>
  const T* as() const noexcept {
    return static_cast<const T*>(data);
  }
};

/// A loaded network in one runtime. It knows nothing of faces; Classifier does.
///
/// Used in three steps, so that nothing is copied which need not be: fill the memory that input() gives, run(),
/// read output(). One thread at a time.
class Session {
 public:
  virtual ~Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  virtual const char* runtime() const noexcept = 0;  ///< "openvino", "tensorrt": key of golden tolerances.
  virtual const std::string& version() const noexcept = 0;
  virtual const std::vector<TensorSpec>& inputs() const noexcept = 0;
  virtual const std::vector<TensorSpec>& outputs() const noexcept = 0;
  virtual std::int64_t min_batch() const noexcept = 0;  ///< Smallest batch it takes.
  virtual std::int64_t max_batch() const noexcept = 0;  ///< Largest batch it takes; −1: any.

  /// What the model's file says of itself under `key`, as ONNX files do; empty where it or the runtime does not tell.
  virtual std::string metadata([[maybe_unused]] const std::string& key) const { return {}; }

  /// Memory for the input `name` of `shape`, to be filled before run(); every input, each time.
  ///
  /// Throws Error: no such input, a shape that does not fit, or no memory.
  virtual void* input(std::string_view name, const Shape& shape) = 0;

  /// Compute. Throws Error: an input is missing, or the runtime failed.
  virtual void run() = 0;

  /// What the last run() gave for the output `name`. Throws Error: no such output, or nothing was run.
  virtual TensorView output(std::string_view name) const = 0;

 protected:
  Session() = default;
};

/// How a session is opened.
struct SessionOptions {
  int threads = 1;                 ///< Of one inference, on a CPU.
  std::string precision = "fp32";  ///< As manifests say it; with "bf16" in it, floats are bfloat16 on a CPU.
  int dla_core = -1;               ///< Of a Jetson, for an engine that was built for one; −1: none.
  bool host_code = false;          ///< Run the code in a version compatible engine of TensorRT: one that is trusted.
};

/// Open `model` in `runtime`: "openvino" (ONNX or IR) or "tensorrt" (a serialised engine).
///
/// Throws Error: this build lacks the runtime, there is no GPU, or the runtime refuses the model.
std::unique_ptr<Session> open_session(const std::string& runtime, const std::filesystem::path& model,
                                      const SessionOptions& options = {});

/// The runtimes that this build has, e.g. {"openvino"}.
std::vector<std::string> runtimes();

}  // namespace edgefer
