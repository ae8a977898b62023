#include "command_line.hpp"

#include <cmath>
#include <cstdlib>
#include <utility>

#include "notices.hpp"

namespace edgefer::app {
namespace {

constexpr std::size_t kHelpColumn = 28;

double to_number(const std::string& name, const std::string& text, double low, double high, bool whole) {
  char* end = nullptr;
  const double found = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !std::isfinite(found) || (whole && found != std::floor(found))) {
    throw Error(name + " takes a " + (whole ? "whole " : "") + "number, not '" + text + "'",
                "--help lists the options");
  }
  if (found < low || found > high) {
    const bool open = high >= 1e9;
    throw Error(name + " " + text + " is out of range",
                open ? "it is at least " + shortest(low) : "it is " + shortest(low) + " to " + shortest(high));
  }
  return found;
}

}  // namespace

void CommandLine::value(const std::string& name, const std::string& metavar, const std::string& help, Take take) {
  options_.push_back({name, metavar, help, std::move(take), false});
}

void CommandLine::number(const std::string& name, const std::string& metavar, const std::string& help, double low,
                         double high, std::function<void(double)> take) {
  value(name, metavar, help, [=](const std::string& text) { take(to_number(name, text, low, high, false)); });
}

void CommandLine::whole(const std::string& name, const std::string& metavar, const std::string& help, int low, int high,
                        std::function<void(int)> take) {
  value(name, metavar, help,
        [=](const std::string& text) { take(static_cast<int>(to_number(name, text, low, high, true))); });
}

void CommandLine::flag(const std::string& name, const std::string& help, std::function<void(bool)> take,
                       bool opposite) {
  options_.push_back({name, "", help, [take](const std::string& on) { take(on == "1"); }, opposite});
}

std::vector<std::string> CommandLine::parse(const std::vector<std::string>& arguments) const {
  std::vector<std::string> others;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument.rfind("--", 0) != 0) {
      others.push_back(argument);
      continue;
    }
    const auto equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    bool known = false;
    for (const Option& option : options_) {
      const bool is_opposite = option.opposite && name == "--no-" + option.name.substr(2);
      if (name != option.name && !is_opposite) continue;
      known = true;
      if (option.metavar.empty()) {
        if (equals != std::string::npos) throw Error(name + " takes no value", "--help lists the options");
        option.take(is_opposite ? "0" : "1");
      } else if (equals != std::string::npos) {
        option.take(argument.substr(equals + 1));
      } else if (++i < arguments.size()) {
        option.take(arguments[i]);
      } else {
        throw Error(name + " needs a value", name + " " + option.metavar);
      }
    }
    if (!known) throw Error("there is no option '" + name + "'", "--help lists the options");
  }
  return others;
}

std::string CommandLine::help() const {
  std::string text;
  for (const Option& option : options_) {
    std::string line = "  " + option.name + (option.opposite ? ", --no-" + option.name.substr(2) : "");
    if (!option.metavar.empty()) line += " " + option.metavar;
    line += line.size() + 2 > kHelpColumn ? "\n" + std::string(kHelpColumn, ' ')
                                          : std::string(kHelpColumn - line.size(), ' ');
    text += line + option.help + "\n";
  }
  return text;
}

}  // namespace edgefer::app
