#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace edgefer {

/// Everything that whoever runs the network must know, and must not guess.
struct Contract {
  std::vector<std::string> labels;  ///< In the order of the logits.
  int height = 0, width = 0;        ///< Of the uint8 faces, in pixels.
  int channels = 0;                 ///< 1 is grey, 3 is RGB.
  double crop_margin = 0.0;         ///< Fraction of a box's size that is added on each side before the crop.
  std::string architecture;

  std::size_t face_bytes() const noexcept {
    return static_cast<std::size_t>(height) * static_cast<std::size_t>(width) * static_cast<std::size_t>(channels);
  }

  /// Read the JSON that travels in a manifest and in an ONNX file's metadata; `origin` names the file in errors.
  ///
  /// Throws Error: not JSON, a key is missing, or a value is of the wrong kind or size.
  static Contract parse(const std::string& text, const std::string& origin);
};

/// What the engine answered when it was built.
struct Golden {
  std::size_t count = 0;                    ///< Of faces.
  std::vector<std::uint8_t> faces;          ///< count×height×width×channels, synthetic.
  std::vector<float> logits;                ///< count×labels.
  std::map<std::string, double> tolerance;  ///< Runtime → largest allowed max|logits − golden| / max|golden|.
};

/// What lies beside an engine: `x.onnx` has `x.onnx.json`, `x.engine` has `x.engine.json`.
struct Manifest {
  std::string edgefer_version;  ///< That wrote it.
  std::string engine_file;      ///< Its name, without folder.
  std::string engine_sha256;    ///< Lower-case hex.
  std::uint64_t engine_bytes = 0;
  std::string target;                        ///< "cpu", "tensorrt", ….
  std::string runtime;                       ///< "openvino", "tensorrt", …: what it was built and checked with.
  std::string runtime_version;               ///< E.g. "10.3.0".
  std::vector<std::string> instruction_set;  ///< Of the CPU that built it.
  Contract contract;
  std::string precision;  ///< What it computes in: "fp32", "int8+fp16", ….
  bool has_int8 = false;  ///< Whether any layer of it does so in INT8.
  Golden golden;
  std::string device;                 ///< The GPU it is for, "Orin, SM87"; empty on a CPU.
  std::vector<std::string> portable;  ///< Where else it may run: "version", "hardware".
  int dla_core = -1;                  ///< The DLA core it runs on; −1: none.
  std::string note;                   ///< What whoever uses it must know; may be empty.

  /// Parse the JSON `text`; `origin` names the file in errors. Unknown keys are ignored.
  ///
  /// Throws Error: not JSON, a newer schema, a key is missing, or a value is of the wrong kind or size.
  static Manifest parse(const std::string& text, const std::string& origin);

  /// Read the manifest beside the file `engine`. Throws Error: there is none, or as parse().
  static Manifest beside(const std::filesystem::path& engine);

  /// The file this manifest was written for, byte for byte: `engine`, or `engine.<first 8 digits of its SHA-256>`,
  /// which a build that was cut off before its last step leaves. Throws Error: neither is.
  std::filesystem::path verify(const std::filesystem::path& engine) const;
};

/// `x.onnx` → `x.onnx.json`; of a link that has none beside it, the one beside what it points to.
std::filesystem::path manifest_path(const std::filesystem::path& engine);

/// SHA-256 (FIPS 180-4) of a file's bytes as 64 lower-case hex digits. Throws Error: it cannot be read.
std::string sha256_file(const std::filesystem::path& file);

/// SHA-256 of `size` bytes at `data`, likewise.
std::string sha256(const void* data, std::size_t size);

}  // namespace edgefer
