// Command lines of both programs over CLI11: options that are checked, one error with one hint, a help page in
// sections.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <optional>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "edgefer/error.hpp"

namespace edgefer::command_line {

inline constexpr double kUnbounded = 1e9;
inline constexpr auto kHelp = "--help lists the options";

/// CLI11's help page without its remarks on types.
class HelpFormat final : public CLI::Formatter {
 public:
  HelpFormat() { column_width(30); }

  std::string make_option_name(const CLI::Option* option, bool is_positional) const override {
    std::string name = CLI::Formatter::make_option_name(option, is_positional);
    const auto mark = name.find("{false}");  // of a flag that has an opposite
    if (mark != std::string::npos) name.erase(mark);
    const auto comma = name.find(',');
    if (comma != std::string::npos) name.replace(comma, 1, name[1] == '-' ? " / " : ", ");
    return name;
  }
  std::string make_option_opts(const CLI::Option* option) const override {
    return option->get_type_name().empty() || option->get_positional() ? "" : " " + option->get_type_name();
  }
};

/// An app that takes the last of repeated options, as click does, and leaves what it does not know to parse().
inline void prepare(CLI::App& app) {
  app.formatter(std::make_shared<HelpFormat>());
  app.allow_extras();
#if CLI11_VERSION_MAJOR > 1 || CLI11_VERSION_MINOR > 8  // Ubuntu 20.04's 1.8 would take any number of values then
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
#endif
}

/// `name METAVAR`: any text, into a string or an optional one.
template <class Text>
CLI::Option* add_text(CLI::App& app, const std::string& name, const std::string& metavar, Text& target,
                      const std::string& help) {
  const auto take = [&target](const std::string& text) { target = text; };
  return app.add_option_function<std::string>(name, take, help)->type_name(metavar);
}

/// `text` as a number from `min` to `max`; CLI::Range would let "nan" pass.
inline double to_number(const std::string& name, const std::string& text, double min, double max, bool whole) {
  char* end = nullptr;
  const double found = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !std::isfinite(found) || (whole && found != std::floor(found))) {
    throw Error(name + " takes a " + (whole ? "whole " : "") + "number, not '" + text + "'", kHelp);
  }
  if (found >= min && found <= max) return found;
  std::ostringstream range;
  range << (max >= kUnbounded ? "at least " : "") << min;
  if (max < kUnbounded) range << " to " << max;
  throw Error(name + " " + text + " is out of range", "it is " + range.str());
}

template <class T>
struct Value {
  using type = T;
};
template <class T>
struct Value<std::optional<T>> {
  using type = T;
};

/// `name METAVAR`: a number from `min` to `max`, whole if `target` is, which may be optional.
template <class Target>
CLI::Option* add_number(CLI::App& app, const std::string& name, const std::string& metavar, Target& target, double min,
                        double max, const std::string& help) {
  using Number = typename Value<Target>::type;
  const auto take = [=, &target](const std::string& text) {
    target = static_cast<Number>(to_number(name, text, min, max, std::is_integral_v<Number>));
  };
  return app.add_option_function<std::string>(name, take, help)->type_name(metavar);
}

/// `--name`, or `--name,!--no-name` with an opposite.
template <class Bool>
void add_flag(CLI::App& app, const std::string& name, Bool& target, const std::string& help) {
  const auto take = [&target](std::int64_t count) { target = count > 0; };
  app.add_flag_function(name, take, help)
      ->disable_flag_override()
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

/// Edits (Levenshtein's) that make `one` of `other`.
inline std::size_t distance(const std::string& one, const std::string& other) {
  std::vector<std::size_t> row(other.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < one.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < other.size(); ++j) {
      const std::size_t replaced = diagonal + (one[i] == other[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, replaced});
    }
  }
  return row.back();
}

/// "did you mean --source?" of `--sauce`; where nothing is like it, where to look.
inline std::string meant(const CLI::App& app, const std::string& name) {
  std::string best;
  std::size_t fewest = name.size() / 3;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& known : option->get_lnames()) {
      const std::size_t edits = distance(name, "--" + known);
      if (edits <= fewest) best = "--" + known, fewest = edits;
    }
  }
  return best.empty() ? kHelp : "did you mean " + best + "? " + kHelp;
}

/// What CLI11 found wrong with an option and its value, in our words.
inline Error mismatch(const CLI::App& app, const CLI::ArgumentMismatch& fault) {
  const std::string said = fault.what();
  std::string name = said.substr(0, said.find_first_of(": "));  // it begins with the name, of flags without dashes
  if (name.rfind("--", 0) != 0) name = "--" + name;
  const CLI::Option* option = app.get_option_no_throw(name);
  if (option == nullptr) return Error(said, kHelp);
  if (option->get_type_name().empty()) return Error(name + " takes no value", kHelp);
  return Error(name + " needs a value", name + " " + option->get_type_name());
}

/// Let `app` take `arguments`; the help page if they ask for it. Throws Error: what it does not know, one `what` too
/// many, or a value that is missing or not allowed.
inline std::optional<std::string> parse(CLI::App& app, const std::vector<std::string>& arguments,
                                        const std::string& what) {
  app.set_help_flag("-h,--help", "Show this message and exit.");  // here, so that it stands last
  std::optional<Error> fault;
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));  // CLI11 takes them from the back
  } catch (const CLI::CallForHelp&) {
    std::string page = app.help();
    for (auto at = page.find("\n\n\n"); at != std::string::npos; at = page.find("\n\n\n", at)) page.erase(at, 1);
    return page;
  } catch (const CLI::ArgumentMismatch& found) {
    fault = mismatch(app, found);
  } catch (const CLI::ParseError& found) {
    fault.emplace(found.what(), kHelp);
  }
  for (const std::string& extra : app.remaining()) {  // first: an option that is missing may be misspelt
    if (extra.rfind('-', 0) != 0) throw Error("'" + extra + "' is one " + what + " too many", kHelp);
    const std::string name = extra.substr(0, extra.find('='));
    throw Error("there is no option '" + name + "'", meant(app, name));
  }
  if (fault) throw *fault;
  return std::nullopt;
}

}  // namespace edgefer::command_line
