#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace edgefer::json {

using Json = nlohmann::json;

/// The value of `key`; std::invalid_argument names it where it is missing.
inline const Json& at(const Json& object, const char* key) {
  if (!object.is_object() || !object.contains(key)) throw std::invalid_argument("it lacks '" + std::string(key) + "'");
  return object[key];
}

inline std::invalid_argument wrong(const char* key, const char* wanted) {
  return std::invalid_argument("'" + std::string(key) + "' is not " + wanted);
}

inline std::string text(const Json& object, const char* key) {
  const Json& value = at(object, key);
  if (!value.is_string()) throw wrong(key, "a text");
  return value.get<std::string>();
}

inline std::string text_or_empty(const Json& object, const char* key) {
  return object.contains(key) ? text(object, key) : std::string();
}

inline std::int64_t integer(const Json& value, const char* key, std::int64_t least, std::int64_t most) {
  if (!value.is_number_integer()) throw wrong(key, "a whole number");
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(most)) {
    throw wrong(key, "a number in its range");
  }
  const auto number = value.get<std::int64_t>();
  if (number < least || number > most) throw wrong(key, "a number in its range");
  return number;
}

inline double real(const Json& value, const char* key) {
  if (!value.is_number()) throw wrong(key, "a number");
  return value.get<double>();
}

inline const Json& list(const Json& object, const char* key) {
  const Json& value = at(object, key);
  if (!value.is_array()) throw wrong(key, "a list");
  return value;
}

inline std::vector<std::string> texts(const Json& object, const char* key) {
  std::vector<std::string> found;
  for (const Json& value : list(object, key)) {
    if (!value.is_string()) throw wrong(key, "a list of texts");
    found.push_back(value.get<std::string>());
  }
  return found;
}

}  // namespace edgefer::json
