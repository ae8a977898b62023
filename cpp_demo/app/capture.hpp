// A camera, stream or film over OpenCV's VideoCapture.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>

#include <opencv2/videoio.hpp>

#include "notices.hpp"
#include "source.hpp"

namespace edgefer::app {

/// A live source that stops is tried again for some seconds; a film that stops has ended.
class CaptureSource final : public Source {
 public:
  /// Opens the device, and opens it anew to reconnect.
  using Open = std::function<cv::VideoCapture()>;
  /// Says why it did not open.
  using Refusal = std::function<Error()>;

  /// Without `live`, a source is that unless it states a length. Throws what `refusal` returns if it does not open.
  CaptureSource(const Open& open, const std::string& name, std::optional<bool> live, const Refusal& refusal,
                double patience);

  std::optional<cv::Mat> read() override;
  void close() override;

 private:
  CaptureSource(const Open& open, const std::string& name, std::optional<bool> live, const Refusal& refusal,
                double patience, cv::VideoCapture capture);
  std::optional<cv::Mat> grab();
  std::optional<cv::Mat> reconnected();
  void check_end() const;
  bool closed_within(double seconds);

  const Open open_;
  const Refusal refusal_;
  const double patience_;
  std::mutex waiting_;
  std::condition_variable woken_;
  bool closed_ = false;
  std::timed_mutex busy_;  // releasing a device under a thread that reads would crash
  cv::VideoCapture capture_;
  long frames_ = 0;
  long expected_ = 0;
};

}  // namespace edgefer::app
