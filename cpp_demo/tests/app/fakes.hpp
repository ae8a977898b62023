// Fakes of what has to be plugged into the app: a network, a source, a detector, a sink.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "app.hpp"
#include "edgefer/classifier.hpp"
#include "edgefer/session.hpp"

namespace fakes {

using edgefer::Classifier;
using edgefer::Detection;
using namespace edgefer::app;

/// A fake runtime: the first class where the first pixel is dark, else the third.
class FakeSession final : public edgefer::Session {
 public:
  const char* runtime() const noexcept override { return "fake"; }
  const std::string& version() const noexcept override { return version_; }
  const std::vector<edgefer::TensorSpec>& inputs() const noexcept override { return inputs_; }
  const std::vector<edgefer::TensorSpec>& outputs() const noexcept override { return outputs_; }
  std::int64_t min_batch() const noexcept override { return 1; }
  std::int64_t max_batch() const noexcept override { return -1; }
  void* input(std::string_view, const edgefer::Shape& shape) override {
    count_ = static_cast<std::size_t>(shape[0]);
    faces_.resize(count_ * 16);
    return faces_.data();
  }
  void run() override {
    logits_.clear();
    for (std::size_t i = 0; i < count_; ++i) {
      const bool dark = faces_[16 * i] < 128;
      for (const float logit : {dark ? 4.0F : 0.0F, 0.0F, dark ? 0.0F : 4.0F}) logits_.push_back(logit);
    }
  }
  edgefer::TensorView output(std::string_view) const override {
    return {edgefer::Type::f32, {static_cast<std::int64_t>(count_), 3}, logits_.data()};
  }

 private:
  const std::string version_ = "1";
  const std::vector<edgefer::TensorSpec> inputs_{{"faces", edgefer::Type::u8, {-1, 4, 4, 1}}};
  const std::vector<edgefer::TensorSpec> outputs_{{"logits", edgefer::Type::f32, {-1, 3}}};
  std::size_t count_ = 0;
  std::vector<std::uint8_t> faces_;
  std::vector<float> logits_;
};

inline Classifier fake_classifier() {
  edgefer::Manifest manifest;
  manifest.runtime = "fake";
  manifest.runtime_version = "1";
  manifest.target = "test";
  manifest.precision = "fp32";
  manifest.contract.labels = {"dark", "medium", "bright"};
  manifest.contract.height = manifest.contract.width = 4;
  manifest.contract.channels = 1;
  manifest.contract.architecture = "fake";
  manifest.golden.count = 1;
  manifest.golden.faces.assign(16, 10);
  manifest.golden.logits = {4, 0, 0};
  manifest.golden.tolerance = {{"fake", 1e-3}};
  return Classifier(std::make_unique<FakeSession>(), manifest, "fake");
}

/// Gives frames until `count`; then ends, or does what `at_end` does.
class FakeSource final : public Source {
 public:
  FakeSource(int count, bool is_live, std::function<void()> at_end = {}, double pause = 0)
      : Source("fake", is_live, false), count_(count), at_end_(std::move(at_end)), pause_(pause) {}
  std::optional<cv::Mat> read() override {
    if (closed_ || number_ == count_) {
      if (!closed_ && at_end_) at_end_();
      return std::nullopt;
    }
    if (pause_ > 0) std::this_thread::sleep_for(std::chrono::duration<double>(pause_));
    ++number_;
    return cv::Mat(size_of ? size_of(number_) : cv::Size(64, 48), CV_8UC3, cv::Scalar::all(200));
  }
  void close() override { closed_ = true; }

  std::function<cv::Size(int)> size_of;

 private:
  const int count_;
  const std::function<void()> at_end_;
  const double pause_;
  std::atomic<bool> closed_{false};
  int number_ = 0;
};

inline Detection at(double x, double y, double side = 20) {
  Detection found;
  found.box = {x, y, side, side};
  found.score = 0.9;
  found.crop = {x + side / 2, y + side / 2, side, 0};
  return found;
}

class FakeDetector final : public Detector {
 public:
  explicit FakeDetector(std::function<std::vector<Detection>(const Frame&)> script) : script_(std::move(script)) {}
  std::vector<Detection> detect(const Frame& frame) override { return script_(frame); }

 private:
  const std::function<std::vector<Detection>(const Frame&)> script_;
};

class KeepingSink final : public Sink {
 public:
  explicit KeepingSink(std::function<bool(const LabelledFrame&)> script = {}) : script_(std::move(script)) {}
  bool wants_picture() const override { return false; }
  bool write(const LabelledFrame& one) override {
    labelled.push_back(one);
    return !script_ || script_(one);
  }
  void close() override { closed = true; }

  std::vector<LabelledFrame> labelled;
  bool closed = false;

 private:
  const std::function<bool(const LabelledFrame&)> script_;
};

/// Everything that an app needs, put together.
struct Bench {
  Bench(std::unique_ptr<FakeSource> from, FakeDetector found, std::vector<Sink*> sinks, const Options& how = {})
      : options(how),
        source(std::move(from)),
        detector(std::move(found)),
        app(*source, find, label, std::move(sinks), options, kPatience) {}

  // What a thread that was left behind uses must not go away, as it does here: a busy machine is no driver that hangs.
  static constexpr double kPatience = 20.0;

  const Options options;
  Classifier classifier = fake_classifier();
  std::unique_ptr<FakeSource> source;
  FakeDetector detector;
  Finder find{detector, options, false};
  Labeller label{classifier, options};
  App app;
};

}  // namespace fakes
