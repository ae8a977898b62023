// edgefer_seal: write the manifest of an engine that trtexec built where there is no Python, JetPack 5 for one.
//
// The engine must answer the golden faces as the host's engine of the same network did, within the tolerance of its
// precision; its own answers then become the golden ones of its manifest.

#include <algorithm>
#include <charconv>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <vector>

#include "edgefer/classifier.hpp"
#include "edgefer/error.hpp"
#ifdef EDGEFER_TENSORRT
#include "edgefer/tensorrt_session.hpp"
#endif

namespace {

using edgefer::Error;
using Json = nlohmann::ordered_json;

constexpr const char* usage =
    "usage: edgefer_seal ENGINE --like HOST_ENGINE.onnx.json --precision fp16|int8+fp16|… [--dla CORE]";

struct Arguments {
  std::filesystem::path engine, like;
  std::string precision;
  int dla_core = -1;  // −1: it is for the GPU
};

int core_of(const std::string& word) {
  int core = -1;
  const auto [end, fault] = std::from_chars(word.data(), word.data() + word.size(), core);
  if (fault != std::errc() || end != word.data() + word.size() || core < 0)
    throw Error("'" + word + "' is no DLA core", "--dla 0 or --dla 1, as trtexec's --useDLACore was");
  return core;
}

Arguments parse(const std::vector<std::string>& words) {
  Arguments found;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const bool has_value = i + 1 < words.size();
    if (words[i] == "--like" && has_value) {
      found.like = words[++i];
    } else if (words[i] == "--precision" && has_value) {
      found.precision = words[++i];
    } else if (words[i] == "--dla" && has_value) {
      found.dla_core = core_of(words[++i]);
    } else if (words[i].rfind("--", 0) != 0 && found.engine.empty()) {
      found.engine = words[i];
    } else {
      throw Error("'" + words[i] + "' is not understood", usage);
    }
  }
  if (found.engine.empty() || found.like.empty() || found.precision.empty()) throw Error("something is missing", usage);
  return found;
}

/// As edgefer/runtimes.py: that of the coarsest part of a precision such as "int8+fp16".
double tolerance_of(const std::string& precision) {
  static const std::map<std::string, double> known = {{"fp32", 1e-3}, {"fp16", 1e-2}, {"bf16", 5e-2}, {"int8", 1e-1}};
  double largest = 0.0;
  for (std::size_t begin = 0, end = 0; end != std::string::npos; begin = end + 1) {
    end = precision.find('+', begin);
    const auto found = known.find(precision.substr(begin, end == std::string::npos ? end : end - begin));
    if (found == known.end())
      throw Error("there is no precision '" + precision + "'", "fp32, fp16, int8, int8+fp16, …");
    largest = std::max(largest, found->second);
  }
  return largest;
}

std::string read(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw Error(file.string() + " cannot be opened", "check the path");
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

std::string now() {
  const std::time_t moment = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S+00:00", std::gmtime(&moment));
  return text;
}

void write_whole(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::path part = path;
  part += ".part";
  std::ofstream stream(part, std::ios::binary);
  stream << text;
  stream.close();
  if (!stream) {
    std::filesystem::remove(part);
    throw Error(path.string() + " cannot be written", "is there room on the disk, and may you write there?");
  }
  std::filesystem::rename(part, path);
}

Json rows_of(const std::vector<float>& logits, std::size_t classes) {
  Json rows = Json::array();
  for (auto row = logits.begin(); row != logits.end(); row += static_cast<std::ptrdiff_t>(classes)) {
    rows.push_back(std::vector<double>(row, row + static_cast<std::ptrdiff_t>(classes)));
  }
  return rows;
}

void seal(const Arguments& wanted) {
  const std::string host = read(wanted.like),
                    runtime = wanted.engine.extension() == ".engine" ? "tensorrt" : "openvino";
  edgefer::Manifest manifest = edgefer::Manifest::parse(host, wanted.like.string());
  const double tolerance = tolerance_of(wanted.precision);
  if (wanted.dla_core >= 0 && runtime != "tensorrt")
    throw Error(wanted.engine.string() + " is no TensorRT engine, and others have no DLA", "leave --dla out");
  auto session = edgefer::open_session(runtime, wanted.engine, {1, wanted.precision, wanted.dla_core});
  const std::string version = session->version();
  const Json batches = runtime == "tensorrt" ? Json::array({session->least(), session->most()}) : Json();
  std::string device;
#ifdef EDGEFER_TENSORRT
  if (const auto* gpu = dynamic_cast<edgefer::TensorRtSession*>(session.get())) device = gpu->device();
#endif
  manifest.precision = wanted.precision;
  manifest.golden.tolerance = {{runtime, tolerance}};
  edgefer::Classifier classifier(std::move(session), manifest, wanted.engine.string());  // refuses other answers

  Json content = Json::parse(host);
  content["created"] = now();
  content["engine"] = {{"file", wanted.engine.filename().string()},
                       {"sha256", edgefer::sha256_file(wanted.engine)},
                       {"bytes", std::filesystem::file_size(wanted.engine)}};
  content["target"] = runtime == "tensorrt" ? "tensorrt" : "cpu";
  content["runtime"] = {{"name", runtime}, {"version", version}};
  content["precision"] = {{"asked", wanted.precision}, {"got", wanted.precision}, {"layers", Json::array()}};
  const auto& golden = manifest.golden;
  content["golden"]["logits"] =
      rows_of(classifier.logits(golden.faces.data(), golden.count), manifest.contract.labels.size());
  content["golden"]["tolerance"] = {{runtime, tolerance}};
  content["candidates"] = Json::array();
  content["device"] = device;
  content["batches"] = batches;
  content["dla_core"] = wanted.dla_core < 0 ? Json() : Json(wanted.dla_core);
  content["note"] = "built elsewhere, compared with " + wanted.like.filename().string() + ", and sealed here";
  content["audit"] = Json::array();
  write_whole(edgefer::manifest_path(wanted.engine), content.dump(1) + "\n");
  std::cout << edgefer::manifest_path(wanted.engine).string() << ": golden answers within "
            << classifier.golden_difference() << " of the host's scale, " << tolerance << " is allowed\n";
}

}  // namespace

int main(int count, char** words) {
  try {
    seal(parse({words + 1, words + count}));
    return 0;
  } catch (const Error& fault) {
    std::cerr << "error: " << fault.message() << '\n';
    if (!fault.hint().empty()) std::cerr << "hint: " << fault.hint() << '\n';
  } catch (const std::exception& fault) {
    std::cerr << "error: " << fault.what() << '\n';
  }
  return 2;
}
