#include "edgefer/classifier.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <iomanip>
#include <limits>
#include <sstream>
#include <utility>

#include "edgefer/error.hpp"
#include "edgefer/notes.hpp"
#include "internal.hpp"

namespace edgefer {
namespace {

constexpr const char* input_name = "faces";
constexpr const char* output_name = "logits";
constexpr std::array<std::size_t, 4> batches = {1, 2, 4, 8};  // sizes that are filled up to, as in Python

/// The face whose answer is farthest off, both answers of it.
std::string both(const std::vector<float>& found, const Golden& golden, const Contract& contract) {
  const std::size_t classes = contract.labels.size();
  std::size_t worst = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (std::abs(found[i] - golden.logits[i]) > std::abs(found[worst] - golden.logits[worst])) worst = i;
  }
  const std::size_t face = worst / classes;
  std::ostringstream text;
  text << std::setprecision(4) << "golden face " << face + 1 << " of " << golden.count << ":";
  for (std::size_t label = 0; label < classes; ++label) {
    const std::size_t at = face * classes + label;
    text << (label > 0 ? "," : "") << " " << contract.labels[label] << " " << found[at] << " (golden "
         << golden.logits[at] << ")";
  }
  return text.str();
}

bool same(const Contract& one, const Contract& other) {
  return one.labels == other.labels && one.height == other.height && one.width == other.width &&
         one.channels == other.channels && one.crop_margin == other.crop_margin &&
         one.architecture == other.architecture;
}

/// The batch to run for `count` faces that wait: one of `batches` where the session takes it.
std::size_t batch_for(std::size_t count, const Session& session) {
  const auto min = static_cast<std::size_t>(session.min_batch());
  const std::size_t max = session.max_batch() < 0 ? batches.back() : static_cast<std::size_t>(session.max_batch());
  const auto enough = [count](std::size_t size) { return size >= count; };
  const auto wanted = std::find_if(batches.begin(), batches.end(), enough);
  return std::max(min, std::min(max, wanted == batches.end() ? batches.back() : *wanted));
}

/// The runtime that opens the engine: its own; for a float ONNX file of ONNX Runtime, OpenVINO where it was checked
/// there.
std::string runtime_for(const Manifest& manifest) {
  const std::vector<std::string> here = runtimes();
  const bool other = manifest.runtime == "onnxruntime" && manifest.precision == "fp32" &&
                     manifest.golden.tolerance.count("openvino") != 0 &&
                     std::find(here.begin(), here.end(), "openvino") != here.end();
  return other ? "openvino" : manifest.runtime;
}

}  // namespace

Classifier Classifier::load(const std::filesystem::path& engine, int threads) {
  std::error_code fault;
  if (!std::filesystem::is_regular_file(engine, fault) && !std::filesystem::exists(manifest_path(engine), fault)) {
    throw Error("there is no engine " + engine.string(),
                "check the path; `edgefer build-engine model.onnx --int8 --runtime openvino -o x.onnx` makes engines");
  }
  Manifest manifest = Manifest::beside(engine);
  const std::filesystem::path file = manifest.verify(engine);
  const std::string runtime = runtime_for(manifest);
  check_runtime(runtime, engine.string());
  if (manifest.target == "cpu") check_cpu(engine, manifest);
#ifdef EDGEFER_TENSORRT
  if (runtime == "tensorrt") check_tensorrt_place(engine, manifest);
#endif
  const auto& portable = manifest.portable;
  const bool host_code = std::find(portable.begin(), portable.end(), "version") != portable.end();
  auto session = open_session(runtime, file, {threads, manifest.precision, manifest.dla_core, host_code});
  if (manifest.target == "cpu" && !manifest.runtime_version.empty() && session->version() != manifest.runtime_version) {
    announce(engine.string() + " was built with " + manifest.runtime + " " + manifest.runtime_version +
             " and runs in " + session->version() + "; its golden vectors decide");
  }
  return Classifier(std::move(session), std::move(manifest), engine.string());
}

Classifier::Classifier(std::unique_ptr<Session> session, Manifest manifest, std::string name)
    : session_(std::move(session)), manifest_(std::move(manifest)), name_(std::move(name)) {
  check_tensors();
  check_metadata();
  golden_difference_ = check_golden();
}

void Classifier::check_tensors() const {
  const Contract& contract = manifest_.contract;
  const TensorSpec wanted_in{input_name, Type::u8, {-1, contract.height, contract.width, contract.channels}};
  const TensorSpec wanted_out{output_name, Type::f32, {-1, static_cast<std::int64_t>(contract.labels.size())}};
  const auto check = [this](const char* kind, const std::vector<TensorSpec>& found, const TensorSpec& wanted) {
    const bool fits = found.size() == 1 && found[0].name == wanted.name && found[0].type == wanted.type &&
                      found[0].shape.size() == wanted.shape.size() &&
                      std::equal(wanted.shape.begin() + 1, wanted.shape.end(), found[0].shape.begin() + 1);
    if (fits) return;
    throw Error(name_ + " has the " + kind + " " + (found.empty() ? "nothing" : to_string(found[0])) +
                    (found.size() > 1 ? " and others" : "") + "; its contract asks for " + to_string(wanted),
                "the file and its contract do not belong together: export or build it again");
  };
  check("input", session_->inputs(), wanted_in);
  check("output", session_->outputs(), wanted_out);
}

void Classifier::check_metadata() const {
  const std::string contract = session_->metadata("edgefer.contract"),
                    precision = session_->metadata("edgefer.precision");
  std::string what;
  if (!contract.empty() && !same(Contract::parse(contract, name_), manifest_.contract)) {
    what = "contract (labels, input or crop)";
  } else if (!precision.empty() && precision != manifest_.precision) {
    what = "precision (" + manifest_.precision + ", and the file " + precision + ")";
  } else {
    return;
  }
  throw Error("the manifest of " + name_ + " states another " + what + " than the file itself",
              "it was edited: build the engine again with `edgefer build-engine`");
}

double Classifier::check_golden() {
  const Golden& golden = manifest_.golden;
  const auto tolerance = golden.tolerance.find(session_->runtime());
  if (tolerance == golden.tolerance.end()) {
    std::string known;
    for (const auto& entry : golden.tolerance) known += (known.empty() ? "" : ", ") + entry.first;
    throw Error(name_ + " was never checked with " + session_->runtime() + ": its golden vectors are for " + known,
                "build it for " + std::string(session_->runtime()));
  }
  const std::vector<float>& found = logits(golden.faces.data(), golden.count);
  double scale = static_cast<double>(std::numeric_limits<float>::min()), apart = 0.0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    scale = std::max(scale, std::abs(static_cast<double>(golden.logits[i])));
    apart = std::max(apart, static_cast<double>(std::abs(found[i] - golden.logits[i])));
  }
  if (apart / scale <= tolerance->second) return apart / scale;
  std::ostringstream message;
  message << std::setprecision(3) << name_ << " does not answer here as when it was built: its golden logits differ by "
          << apart / scale << " of their scale with " << session_->runtime() << " " << session_->version() << ", "
          << tolerance->second << " is allowed; " << both(found, golden, manifest_.contract);
  throw Error(message.str(), "this machine or runtime computes it differently: build the engine again on this machine");
}

const std::vector<float>& Classifier::logits(const std::uint8_t* faces, std::size_t count) {
  const std::size_t classes = manifest_.contract.labels.size(), bytes = manifest_.contract.face_bytes();
  rows_.resize(count * classes);
  for (std::size_t done = 0; done < count;) {
    const std::size_t size = batch_for(count - done, *session_);
    const std::size_t real = std::min(size, count - done);
    run_batch(faces + done * bytes, real, size, rows_.data() + done * classes);
    done += real;
  }
  check_finite();
  return rows_;
}

void Classifier::run_batch(const std::uint8_t* faces, std::size_t real, std::size_t size, float* rows) {
  const Contract& contract = manifest_.contract;
  const std::size_t bytes = contract.face_bytes(), classes = contract.labels.size();
  const Shape shape = {static_cast<std::int64_t>(size), contract.height, contract.width, contract.channels};
  auto* memory = static_cast<std::uint8_t*>(session_->input(input_name, shape));
  std::memcpy(memory, faces, real * bytes);
  for (std::size_t face = real; face < size; ++face)
    std::memcpy(memory + face * bytes, faces + (real - 1) * bytes, bytes);
  session_->run();
  const TensorView answer = session_->output(output_name);
  if (answer.shape != Shape{shape[0], static_cast<std::int64_t>(classes)}) {
    throw Error(name_ + " returned " + to_string({output_name, answer.type, answer.shape}) + " for " +
                    std::to_string(size) + " faces",
                "its batch size is baked in; export the model again with a dynamic batch");
  }
  std::copy_n(answer.as<float>(), real * classes, rows);
}

void Classifier::check_finite() const {
  const std::size_t classes = manifest_.contract.labels.size();
  std::size_t bad = 0;
  for (std::size_t i = 0; i < rows_.size(); i += classes) {
    const auto row = rows_.begin() + static_cast<std::ptrdiff_t>(i);
    bad +=
        std::all_of(row, row + static_cast<std::ptrdiff_t>(classes), [](float v) { return std::isfinite(v); }) ? 0 : 1;
  }
  if (bad == 0) return;
  throw Error(name_ + " (" + manifest_.precision + ", " + session_->runtime() +
                  ") gave logits that are not finite for " + std::to_string(bad) + " of " +
                  std::to_string(rows_.size() / classes) + " faces",
              "a value overflowed: build with --bf16 or --fp32 instead of --fp16, or check the weights for NaN");
}

const std::vector<float>& Classifier::probabilities(const std::uint8_t* faces, std::size_t count) {
  logits(faces, count);
  const std::size_t classes = manifest_.contract.labels.size();
  for (std::size_t row = 0; row < count; ++row) softmax(rows_.data() + row * classes, classes);
  return rows_;
}

void softmax(float* values, std::size_t classes) noexcept {
  const float largest = values[top(values, classes)];
  float sum = 0.0F;
  for (std::size_t i = 0; i < classes; ++i) {
    values[i] = std::exp(values[i] - largest);
    sum += values[i];
  }
  for (std::size_t i = 0; i < classes; ++i) values[i] /= sum;
}

std::size_t top(const float* values, std::size_t classes) noexcept {
  return static_cast<std::size_t>(std::max_element(values, values + classes) - values);
}

}  // namespace edgefer
