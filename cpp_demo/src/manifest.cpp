#include "edgefer/manifest.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <stdexcept>

#include "edgefer/error.hpp"
#include "internal.hpp"

namespace edgefer {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t schema = 1;        // the newest that is read
constexpr std::int64_t max_side = 16384;  // of a face: keeps every product of sizes far from overflow
constexpr std::int64_t max_golden = 4096;
constexpr const char* rebuild =
    "build the engine again with `edgefer build-engine`; engine and manifest are written together";

/// The value of `key`; std::invalid_argument names it where it is missing.
const Json& at(const Json& object, const char* key) {
  if (!object.is_object() || !object.contains(key)) throw std::invalid_argument("it lacks '" + std::string(key) + "'");
  return object[key];
}

std::invalid_argument wrong(const char* key, const char* wanted) {
  return std::invalid_argument("'" + std::string(key) + "' is not " + wanted);
}

std::string text(const Json& object, const char* key) {
  const Json& value = at(object, key);
  if (!value.is_string()) throw wrong(key, "a text");
  return value.get<std::string>();
}

std::string text_or_empty(const Json& object, const char* key) {
  return object.contains(key) ? text(object, key) : std::string();
}

std::int64_t integer(const Json& value, const char* key, std::int64_t min, std::int64_t max) {
  if (!value.is_number_integer()) throw wrong(key, "a whole number");
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(max)) {
    throw wrong(key, "a number in its range");
  }
  const auto number = value.get<std::int64_t>();
  if (number < min || number > max) throw wrong(key, "a number in its range");
  return number;
}

double real(const Json& value, const char* key) {
  if (!value.is_number()) throw wrong(key, "a number");
  return value.get<double>();
}

const Json& list(const Json& object, const char* key) {
  const Json& value = at(object, key);
  if (!value.is_array()) throw wrong(key, "a list");
  return value;
}

std::vector<std::string> texts(const Json& object, const char* key) {
  std::vector<std::string> found;
  for (const Json& value : list(object, key)) {
    if (!value.is_string()) throw wrong(key, "a list of texts");
    found.push_back(value.get<std::string>());
  }
  return found;
}

std::uint32_t digit(char letter) {
  if (letter >= 'A' && letter <= 'Z') return static_cast<std::uint32_t>(letter - 'A');
  if (letter >= 'a' && letter <= 'z') return static_cast<std::uint32_t>(letter - 'a') + 26;
  if (letter >= '0' && letter <= '9') return static_cast<std::uint32_t>(letter - '0') + 52;
  if (letter == '+') return 62;
  if (letter == '/') return 63;
  throw std::invalid_argument("a character that base64 does not have");
}

Contract contract_of(const Json& content) {
  Contract contract;
  contract.labels = texts(content, "labels");
  contract.height = static_cast<int>(integer(at(content, "height"), "height", 1, max_side));
  contract.width = static_cast<int>(integer(at(content, "width"), "width", 1, max_side));
  contract.channels = static_cast<int>(integer(at(content, "channels"), "channels", 1, 3));
  contract.crop_margin = real(at(content, "crop_margin"), "crop_margin");
  contract.architecture = text(content, "architecture");
  const std::set<std::string> different(contract.labels.begin(), contract.labels.end());
  if (different.size() < 2 || different.size() != contract.labels.size()) {
    throw wrong("labels", "two or more different texts");
  }
  if (contract.channels == 2) throw wrong("channels", "1 (grey) or 3 (RGB)");
  if (!(contract.crop_margin > -0.5 && contract.crop_margin < 100)) throw wrong("crop_margin", "a fraction");
  at(content, "normalisation");  // done inside the graph: nothing here needs it, but every contract has it
  return contract;
}

Golden golden_of(const Json& content, const Contract& contract) {
  Golden golden;
  const Json& shape = list(content, "shape");
  if (shape.size() != 4) throw wrong("shape", "four numbers");
  golden.count = static_cast<std::size_t>(integer(shape[0], "shape", 1, max_golden));
  if (integer(shape[1], "shape", 1, max_side) != contract.height ||
      integer(shape[2], "shape", 1, max_side) != contract.width ||
      integer(shape[3], "shape", 1, 3) != contract.channels) {
    throw wrong("shape", "the contract's");
  }
  golden.faces = base64_decode(text(content, "faces"));
  if (golden.faces.size() != golden.count * contract.face_bytes()) throw wrong("faces", "of their shape");
  const Json& rows = list(content, "logits");
  if (rows.size() != golden.count) throw wrong("logits", "a row for each golden face");
  for (const Json& row : rows) {
    if (!row.is_array() || row.size() != contract.labels.size()) throw wrong("logits", "a value for each label");
    for (const Json& value : row) golden.logits.push_back(static_cast<float>(real(value, "logits")));
  }
  const Json& tolerances = at(content, "tolerance");
  if (!tolerances.is_object()) throw wrong("tolerance", "an object");
  for (const auto& [runtime, value] : tolerances.items()) golden.tolerance[runtime] = real(value, "tolerance");
  const auto finite = [](float value) { return std::isfinite(value); };
  const auto sensible = [](const auto& entry) { return entry.second > 0 && entry.second < 1; };
  if (!std::all_of(golden.logits.begin(), golden.logits.end(), finite) ||
      !std::all_of(golden.tolerance.begin(), golden.tolerance.end(), sensible)) {
    throw std::invalid_argument("golden logits are finite and tolerances between 0 and 1");
  }
  return golden;
}

Manifest manifest_of(const Json& content) {
  Manifest manifest;
  const Json &engine = at(content, "engine"), &runtime = at(content, "runtime");
  const Json& precision = at(content, "precision");
  manifest.edgefer_version = text(content, "edgefer");
  manifest.engine_file = text(engine, "file");
  manifest.engine_sha256 = text(engine, "sha256");
  manifest.engine_bytes = static_cast<std::uint64_t>(integer(at(engine, "bytes"), "bytes", 0, INT64_MAX));
  manifest.target = text(content, "target");
  manifest.runtime = text(runtime, "name");
  manifest.runtime_version = text(runtime, "version");
  manifest.instruction_set = texts(content, "instruction_set");
  manifest.contract = contract_of(at(content, "contract"));
  manifest.precision = text(precision, "got");
  manifest.has_int8 = ("+" + manifest.precision + "+").find("+int8+") != std::string::npos;
  for (const Json& layer : list(precision, "layers")) manifest.has_int8 |= text(layer, "got") == "int8";
  manifest.golden = golden_of(at(content, "golden"), manifest.contract);
  manifest.device = text_or_empty(content, "device");
  if (content.contains("portable")) manifest.portable = texts(content, "portable");
  if (content.contains("dla_core") && !content["dla_core"].is_null()) {
    manifest.dla_core = static_cast<int>(integer(content["dla_core"], "dla_core", 0, INT8_MAX));
  }
  manifest.note = text_or_empty(content, "note");
  return manifest;
}

/// `read` of the JSON in `text`; whatever is wrong becomes an Error that names `what`.
template <class Read>
auto read_json(const std::string& text, const std::string& what, const Read& read) {
  try {
    return read(Json::parse(text));
  } catch (const Json::exception& cause) {
    throw Error(what + " cannot be read: " + cause.what(), rebuild);
  } catch (const std::invalid_argument& cause) {
    throw Error(what + " is not as edgefer writes it: " + cause.what(), rebuild);
  }
}

}  // namespace

std::vector<std::uint8_t> base64_decode(const std::string& text) {
  if (text.size() % 4 != 0) throw std::invalid_argument("base64 of a length that is no multiple of four");
  std::size_t end = text.size();
  while (end > 0 && text.size() - end < 2 && text[end - 1] == '=') --end;
  std::vector<std::uint8_t> bytes;
  bytes.reserve(text.size() / 4 * 3);
  std::uint32_t held = 0;
  unsigned bits = 0;
  for (std::size_t i = 0; i < end; ++i) {
    held = held << 6 | digit(text[i]);
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      bytes.push_back(static_cast<std::uint8_t>(held >> bits & 0xFF));
    }
  }
  return bytes;
}

Contract Contract::parse(const std::string& text, const std::string& origin) {
  return read_json(text, "the contract in " + origin, contract_of);
}

Manifest Manifest::parse(const std::string& text, const std::string& origin) {
  return read_json(text, "the manifest " + origin, [&](const Json& content) {
    const std::int64_t found = integer(at(content, "schema"), "schema", 0, INT64_MAX);
    if (found > schema) {
      throw Error(origin + " was made by a newer edgefer: its schema is " + std::to_string(found) +
                      ", this library reads up to " + std::to_string(schema),
                  "install a newer edgefer C++ library, or build the engine again with this one's edgefer");
    }
    return manifest_of(content);
  });
}

Manifest Manifest::beside(const std::filesystem::path& engine) {
  const std::filesystem::path path = manifest_path(engine);
  std::ifstream stream(path, std::ios::binary);
  if (!stream) {
    throw Error(engine.string() + " has no manifest: " + path.string() + " cannot be opened",
                "an engine never travels alone: copy " + path.filename().string() +
                    " beside it, or build the engine again with `edgefer build-engine`");
  }
  const std::string text{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  return parse(text, path.string());
}

std::filesystem::path Manifest::verify(const std::filesystem::path& engine) const {
  std::error_code fault;
  std::string found;
  if (std::filesystem::is_regular_file(engine, fault)) {
    found = sha256_file(engine);
    if (found == engine_sha256) return engine;
  }
  std::filesystem::path staged = std::filesystem::weakly_canonical(engine, fault);
  staged += "." + engine_sha256.substr(0, 8);
  if (std::filesystem::is_regular_file(staged, fault) && sha256_file(staged) == engine_sha256) return staged;
  if (found.empty()) {
    throw Error("there is no engine " + engine.string(), "check the path; `edgefer build-engine` makes engines");
  }
  std::ostringstream message;
  message << engine.string() << " is not the engine its manifest describes: its sha256 is " << found.substr(0, 16)
          << "… (" << std::filesystem::file_size(engine, fault) << " bytes), the manifest says "
          << engine_sha256.substr(0, 16) << "… (" << engine_bytes << " bytes)";
  throw Error(message.str(), "one of the two was replaced or cut short: copy both, or " + std::string(rebuild));
}

std::filesystem::path manifest_path(const std::filesystem::path& engine) {
  std::error_code fault;
  std::filesystem::path path = engine;
  path += ".json";
  if (std::filesystem::exists(path, fault) || !std::filesystem::is_symlink(engine, fault)) return path;
  path = std::filesystem::weakly_canonical(engine, fault);
  path += ".json";
  return path;
}

}  // namespace edgefer
