// edgefer_write_manifest: write the manifest of an engine that trtexec built where there is no Python, JetPack 5 for
// one.
//
// The engine must answer the golden faces as the host's engine of the same network did, within the tolerance of its
// precision; its own answers then become the golden ones of its manifest.

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "command_line.hpp"
#include "edgefer/classifier.hpp"
#include "edgefer/error.hpp"
#ifdef EDGEFER_TENSORRT
#include "edgefer/tensorrt_session.hpp"
#endif

namespace {

using edgefer::Error;
using Json = nlohmann::json;
namespace command_line = edgefer::command_line;

struct Arguments {
  std::string engine, like, precision;
  int dla_core = -1;  // −1: it is for the GPU
};

Arguments parse(const std::vector<std::string>& words) {
  Arguments found;
  CLI::App app("Write the manifest of an engine that trtexec built on this device.", "edgefer_write_manifest");
  command_line::prepare(app);
  app.add_option("ENGINE", found.engine, "Engine file, such as face.engine.")->required();
  app.add_option("--like", found.like, "Manifest of the engine that the host built of the\nsame network.")
      ->type_name("FILE.json")
      ->required();
  app.add_option("--precision", found.precision, "Precision that trtexec was given: fp16, int8 or\nint8+fp16.")
      ->type_name("PRECISION")
      ->required();
  command_line::add_number(app, "--dla", "CORE", found.dla_core, 0, command_line::kUnbounded,
                           "DLA core, as in --useDLACore of trtexec.");
  app.footer(
      "Examples:\n"
      "  edgefer_write_manifest face.engine --like host.onnx.json --precision fp16\n"
      "  edgefer_write_manifest dla.engine --like host.onnx.json --precision int8 --dla 0");
  if (const auto help = command_line::parse(app, words, "engine")) {
    std::cout << *help;
    std::exit(0);
  }
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

void write_manifest(const Arguments& wanted) {
  const std::filesystem::path engine = wanted.engine, like = wanted.like;
  const std::string host = read(like), runtime = engine.extension() == ".engine" ? "tensorrt" : "openvino";
  edgefer::Manifest manifest = edgefer::Manifest::parse(host, like.string());
  const double tolerance = tolerance_of(wanted.precision);
  if (wanted.dla_core >= 0 && runtime != "tensorrt")
    throw Error(engine.string() + " is no TensorRT engine, and others have no DLA", "leave --dla out");
  auto session = edgefer::open_session(runtime, engine, {1, wanted.precision, wanted.dla_core});
  const std::string version = session->version();
  const Json batches = runtime == "tensorrt" ? Json::array({session->min_batch(), session->max_batch()}) : Json();
  std::string device;
#ifdef EDGEFER_TENSORRT
  if (const auto* gpu = dynamic_cast<edgefer::TensorRtSession*>(session.get())) device = gpu->device();
#endif
  manifest.precision = wanted.precision;
  manifest.golden.tolerance = {{runtime, tolerance}};
  edgefer::Classifier classifier(std::move(session), manifest, engine.string());  // refuses other answers

  Json content = Json::parse(host);
  content["created"] = now();
  content["engine"] = {{"file", engine.filename().string()},
                       {"sha256", edgefer::sha256_file(engine)},
                       {"bytes", std::filesystem::file_size(engine)}};
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
  content["note"] = "built by trtexec, compared with " + like.filename().string() + "; this manifest was written here";
  content["audit"] = Json::array();
  write_whole(edgefer::manifest_path(engine), content.dump(1) + "\n");
  std::cout << edgefer::manifest_path(engine).string() << ": golden answers within " << classifier.golden_difference()
            << " of the host's scale, " << tolerance << " is allowed\n";
}

}  // namespace

int main(int count, char** words) {
  try {
    write_manifest(parse({words + 1, words + count}));
    return 0;
  } catch (const Error& fault) {
    std::cerr << "error: " << fault.message() << '\n';
    if (!fault.hint().empty()) std::cerr << "hint: " << fault.hint() << '\n';
  } catch (const std::exception& fault) {
    std::cerr << "error: " << fault.what() << '\n';
  }
  return 2;
}
