#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "edgefer/manifest.hpp"
#include "edgefer/session.hpp"

namespace edgefer {

/// Faces in, logits out. It is served only after its manifest, hash, place and golden vectors were checked.
class Classifier {
 public:
  /// Open `engine` (`.onnx` or `.engine`) with the manifest beside it, and check both.
  ///
  /// Throws Error: there is no engine or manifest; they do not belong together; the runtime, its version or the GPU is
  /// another; the golden vectors differ (it prints both answers).
  static Classifier load(const std::filesystem::path& engine, int threads = 1);

  /// Over an open session; `manifest` says what the engine is, `name` is what messages call it. Checks as load() does,
  /// but for the hash.
  Classifier(std::unique_ptr<Session> session, Manifest manifest, std::string name);

  const Manifest& manifest() const noexcept { return manifest_; }
  const Contract& contract() const noexcept { return manifest_.contract; }
  const std::string& name() const noexcept { return name_; }
  Session& session() noexcept { return *session_; }

  /// Logits of `count` uint8 faces, count×height×width×channels at `faces`: count×labels floats.
  ///
  /// Any count: batches of 1, 2, 4 or 8 are formed inside, the last face filling the rest, so that a runtime which
  /// compiles a network for each size compiles four. The result is the classifier's until the next call.
  ///
  /// Throws Error: the runtime failed, or logits are not finite.
  const std::vector<float>& logits(const std::uint8_t* faces, std::size_t count);

  /// Softmax of logits(): rows sum to 1. Throws and lives as that.
  const std::vector<float>& probabilities(const std::uint8_t* faces, std::size_t count);

  /// Largest difference from the golden logits, relative to the largest of these, as found when it was opened.
  double golden_difference() const noexcept { return golden_difference_; }

 private:
  void check_tensors() const;
  void check_metadata() const;
  double check_golden();
  void check_finite() const;
  void run_batch(const std::uint8_t* faces, std::size_t real, std::size_t size, float* rows);

  std::unique_ptr<Session> session_;
  Manifest manifest_;
  std::string name_;
  std::vector<float> rows_;
  double golden_difference_ = 0.0;
};

/// Softmax of `classes` values in place; finite values in, a sum of 1 out.
void softmax(float* values, std::size_t classes) noexcept;

/// Index of the largest of `classes` values, the first of equals.
std::size_t top(const float* values, std::size_t classes) noexcept;

}  // namespace edgefer
