#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace edgefer {

/// A fault of the input or the environment: what went wrong with which value, and what to do about it.
///
/// The library throws nothing else on purpose. Programs print `error: message` and `hint: hint` and exit with 2.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, std::string hint = {})
      : std::runtime_error(hint.empty() ? message : message + "\nhint: " + hint),
        message_(message),
        hint_(std::move(hint)) {}

  const std::string& message() const noexcept { return message_; }
  const std::string& hint() const noexcept { return hint_; }  ///< Empty where there is nothing to advise.

 private:
  std::string message_, hint_;
};

}  // namespace edgefer
