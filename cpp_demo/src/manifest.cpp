#include "edgefer/manifest.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include "base64.hpp"
#include "edgefer/error.hpp"
#include "json_values.hpp"

namespace edgefer {
namespace {

using json::Json;

constexpr std::int64_t schema = 1;            // the newest that is read
constexpr std::int64_t largest_side = 16384;  // of a face: keeps every product of sizes far from overflow
constexpr std::int64_t most_golden = 4096;
constexpr const char* rebuild =
    "build the engine again with `edgefer build-engine`; engine and manifest are written together";

Contract contract_of(const Json& content) {
  Contract contract;
  contract.labels = json::texts(content, "labels");
  contract.height = static_cast<int>(json::integer(json::at(content, "height"), "height", 1, largest_side));
  contract.width = static_cast<int>(json::integer(json::at(content, "width"), "width", 1, largest_side));
  contract.channels = static_cast<int>(json::integer(json::at(content, "channels"), "channels", 1, 3));
  contract.crop_margin = json::real(json::at(content, "crop_margin"), "crop_margin");
  contract.architecture = json::text(content, "architecture");
  const std::set<std::string> different(contract.labels.begin(), contract.labels.end());
  if (different.size() < 2 || different.size() != contract.labels.size()) {
    throw json::wrong("labels", "two or more different texts");
  }
  if (contract.channels == 2) throw json::wrong("channels", "1 (grey) or 3 (RGB)");
  if (!(contract.crop_margin > -0.5 && contract.crop_margin < 100)) throw json::wrong("crop_margin", "a fraction");
  json::at(content, "normalisation");  // done inside the graph: nothing here needs it, but every contract has it
  return contract;
}

Golden golden_of(const Json& content, const Contract& contract) {
  Golden golden;
  const Json& shape = json::list(content, "shape");
  if (shape.size() != 4) throw json::wrong("shape", "four numbers");
  golden.count = static_cast<std::size_t>(json::integer(shape[0], "shape", 1, most_golden));
  if (json::integer(shape[1], "shape", 1, largest_side) != contract.height ||
      json::integer(shape[2], "shape", 1, largest_side) != contract.width ||
      json::integer(shape[3], "shape", 1, 3) != contract.channels) {
    throw json::wrong("shape", "the contract's");
  }
  golden.faces = base64_decode(json::text(content, "faces"));
  if (golden.faces.size() != golden.count * contract.face_bytes()) throw json::wrong("faces", "of their shape");
  const Json& rows = json::list(content, "logits");
  if (rows.size() != golden.count) throw json::wrong("logits", "a row for each golden face");
  for (const Json& row : rows) {
    if (!row.is_array() || row.size() != contract.labels.size()) throw json::wrong("logits", "a value for each label");
    for (const Json& value : row) golden.logits.push_back(static_cast<float>(json::real(value, "logits")));
  }
  const Json& tolerances = json::at(content, "tolerance");
  if (!tolerances.is_object()) throw json::wrong("tolerance", "an object");
  for (const auto& [runtime, value] : tolerances.items()) golden.tolerance[runtime] = json::real(value, "tolerance");
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
  const Json &engine = json::at(content, "engine"), &runtime = json::at(content, "runtime");
  const Json& precision = json::at(content, "precision");
  manifest.edgefer_version = json::text(content, "edgefer");
  manifest.engine_file = json::text(engine, "file");
  manifest.engine_sha256 = json::text(engine, "sha256");
  manifest.engine_bytes = static_cast<std::uint64_t>(json::integer(json::at(engine, "bytes"), "bytes", 0, INT64_MAX));
  manifest.target = json::text(content, "target");
  manifest.runtime = json::text(runtime, "name");
  manifest.runtime_version = json::text(runtime, "version");
  manifest.instruction_set = json::texts(content, "instruction_set");
  manifest.contract = contract_of(json::at(content, "contract"));
  manifest.precision = json::text(precision, "got");
  manifest.has_int8 = ("+" + manifest.precision + "+").find("+int8+") != std::string::npos;
  for (const Json& layer : json::list(precision, "layers")) manifest.has_int8 |= json::text(layer, "got") == "int8";
  manifest.golden = golden_of(json::at(content, "golden"), manifest.contract);
  manifest.device = json::text_or_empty(content, "device");
  if (content.contains("dla_core") && !content["dla_core"].is_null()) {
    manifest.dla_core = static_cast<int>(json::integer(content["dla_core"], "dla_core", 0, INT8_MAX));
  }
  manifest.note = json::text_or_empty(content, "note");
  return manifest;
}

}  // namespace

namespace {

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

Contract Contract::parse(const std::string& text, const std::string& origin) {
  return read_json(text, "the contract in " + origin, contract_of);
}

Manifest Manifest::parse(const std::string& text, const std::string& origin) {
  return read_json(text, "the manifest " + origin, [&](const Json& content) {
    const std::int64_t found = json::integer(json::at(content, "schema"), "schema", 0, INT64_MAX);
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

void Manifest::verify(const std::filesystem::path& engine) const {
  std::error_code fault;
  if (!std::filesystem::is_regular_file(engine, fault)) {
    throw Error("there is no engine " + engine.string(), "check the path; `edgefer build-engine` makes engines");
  }
  const std::string found = sha256_file(engine);
  if (found == engine_sha256) return;
  std::ostringstream message;
  message << engine.string() << " is not the engine its manifest describes: its sha256 is " << found.substr(0, 16)
          << "… (" << std::filesystem::file_size(engine, fault) << " bytes), the manifest says "
          << engine_sha256.substr(0, 16) << "… (" << engine_bytes << " bytes)";
  throw Error(message.str(), "one of the two was replaced, cut short or left by an interrupted build: copy both, or " +
                                 std::string(rebuild));
}

std::filesystem::path manifest_path(const std::filesystem::path& engine) {
  std::filesystem::path path = engine;
  path += ".json";
  return path;
}

}  // namespace edgefer
