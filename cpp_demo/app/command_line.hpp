// Options of a command: `--name value`, `--name=value`, flags, and a help page made of the same table.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace edgefer::app {

/// A table of options. Faults are Errors that name the option and its value.
class CommandLine {
 public:
  using Take = std::function<void(const std::string& value)>;

  /// `--name VALUE`.
  void value(const std::string& name, const std::string& metavar, const std::string& help, Take take);
  /// A number from `low` to `high`.
  void number(const std::string& name, const std::string& metavar, const std::string& help, double low, double high,
              std::function<void(double)> take);
  /// A whole number likewise.
  void whole(const std::string& name, const std::string& metavar, const std::string& help, int low, int high,
             std::function<void(int)> take);
  /// `--name`; with `opposite`, `--no-name` too.
  void flag(const std::string& name, const std::string& help, std::function<void(bool)> take, bool opposite = false);

  /// Take all arguments; returns those that belong to no option. Throws Error.
  std::vector<std::string> parse(const std::vector<std::string>& arguments) const;

  /// A line or two an option.
  std::string help() const;

 private:
  struct Option {
    std::string name, metavar, help;  // without a metavar, the option takes no value
    Take take;
    bool opposite;
  };

  std::vector<Option> options_;
};

}  // namespace edgefer::app
