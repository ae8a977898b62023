#include "vectors.hpp"

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "../src/internal.hpp"

namespace vectors {
namespace {

using Json = nlohmann::json;

Json load(const std::string& name) { return Json::parse(read(folder() / name)); }

Bytes unpacked(const Json& content) {
  return {content["shape"].get<std::vector<int>>(), edgefer::base64_decode(content["bytes"].get<std::string>())};
}

edgefer::Format format_of(const std::string& name) {
  if (name == "grey") return edgefer::Format::grey;
  if (name == "rgb") return edgefer::Format::rgb;
  if (name == "bgr") return edgefer::Format::bgr;
  if (name == "nv12") return edgefer::Format::nv12;
  throw std::runtime_error("no format " + name);
}

edgefer::Detection detection(const Json& content) {
  const auto box = content["box"].get<std::vector<double>>(), crop = content["crop"].get<std::vector<double>>();
  edgefer::Detection found;
  found.box = {box[0], box[1], box[2], box[3]};
  found.score = content["score"].get<double>();
  found.crop = {crop[0], crop[1], crop[2], crop[3]};
  if (!content["landmarks"].is_null()) {
    found.landmarks.emplace();
    for (std::size_t i = 0; i < 5; ++i) {
      (*found.landmarks)[i] = {content["landmarks"][i][0].get<float>(), content["landmarks"][i][1].get<float>()};
    }
  }
  return found;
}

Step step_of(const Json& content) {
  Step step{content["at"].get<double>(),
            content["reset"].get<bool>(),
            !content["found"].is_null(),
            content["wants_search"].get<bool>(),
            {},
            {}};
  if (step.searched) {
    for (const Json& one : content["found"]) step.found.push_back(detection(one));
  }
  for (const Json& one : content["tracks"]) {
    step.tracks.push_back({one["number"].get<int>(), detection(one), one["predicted"].get<bool>()});
  }
  return step;
}

/// Every value in `content`, itself included, as a pointer to it.
void collect(const Json& content, const Json::json_pointer& here, std::vector<Json::json_pointer>& found) {
  found.push_back(here);
  if (content.is_object()) {
    for (const auto& [key, value] : content.items()) collect(value, here / key, found);
  } else if (content.is_array()) {
    for (std::size_t i = 0; i < std::min<std::size_t>(content.size(), 3); ++i) collect(content[i], here / i, found);
  }
}

}  // namespace

std::filesystem::path folder() {
  const char* const named = std::getenv("EDGEFER_VECTORS");
  if (named == nullptr) throw std::runtime_error("EDGEFER_VECTORS names the folder that make_vectors.py wrote");
  return named;
}

edgefer::Image FaceCase::view() const {
  const bool nv12 = format == edgefer::Format::nv12;
  const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(image.shape[1]) * image.shape[2];
  const int height = nv12 ? image.shape[0] * 2 / 3 : image.shape[0];
  const std::uint8_t* const chroma = nv12 ? image.values.data() + height * stride : nullptr;
  return {image.values.data(), image.shape[1], height, stride, format, chroma, stride};
}

std::vector<FaceCase> faces(const std::string& file) {
  std::vector<FaceCase> cases;
  for (const Json& content : load(file)) {
    FaceCase one{unpacked(content["image"]),
                 unpacked(content["face"]),
                 format_of(content["format"]),
                 content["box"].is_null(),
                 {},
                 {},
                 {}};
    if (!one.whole) {
      const auto box = content["box"].get<std::vector<double>>();
      one.box = {box[0], box[1], box[2], box[3]};
    }
    if (content.contains("square")) {
      const auto square = content["square"].get<std::vector<double>>();
      one.square = {square[0], square[1], square[2], square[3]};
    }
    one.contract.height = one.face.shape[0];
    one.contract.width = one.face.shape[1];
    one.contract.channels = one.face.shape[2];
    one.contract.crop_margin = content["margin"].get<double>();
    cases.push_back(std::move(one));
  }
  return cases;
}

std::vector<Video> tracking() {
  std::vector<Video> videos;
  for (const Json& content : load("tracking.json")) {
    videos.push_back({content["confirmations"].get<int>(), {}});
    for (const Json& step : content["steps"]) videos.back().steps.push_back(step_of(step));
  }
  return videos;
}

std::vector<Mood> smoothing() {
  using Kind = edgefer::Smoothing::Kind;
  std::vector<Mood> moods;
  for (const Json& content : load("smoothing.json")) {
    const auto kind = content["kind"].get<std::string>();
    moods.push_back({kind == "ema" ? Kind::ema : (kind == "majority" ? Kind::majority : Kind::none), {}});
    for (const Json& step : content["steps"]) {
      moods.back().steps.push_back({step["at"].get<double>(), step["in"].get<std::vector<float>>(),
                                    step["out"].get<std::vector<float>>(),
                                    step["label"].is_null() ? -1 : step["label"].get<int>()});
    }
  }
  return moods;
}

std::vector<std::uint8_t> synthetic_faces() { return unpacked(load("logits.json")["faces"]).values; }

std::vector<float> answers(const std::string& name) {
  std::vector<float> found;
  const Json content = load("logits.json");
  for (const Json& row : content.at(name)) {
    for (const Json& value : row) found.push_back(value.get<float>());
  }
  return found;
}

std::string changed(const std::string& text, const std::string& changes) {
  Json content = Json::parse(text);
  content.merge_patch(Json::parse(changes));
  return content.dump();
}

std::vector<std::string> spoilt(const std::string& text) {
  const Json content = Json::parse(text);
  std::vector<Json::json_pointer> places;
  collect(content, Json::json_pointer(), places);
  const std::vector<Json> wrong = {nullptr,
                                   true,
                                   -1,
                                   0,
                                   1e308,
                                   std::int64_t{1} << 40,
                                   18446744073709551615ULL,
                                   "",
                                   "\xC3\xA9",
                                   0.5,
                                   Json::array(),
                                   Json::object(),
                                   Json::array({1, 2, 3, 4})};
  std::vector<std::string> found;
  for (const auto& place : places) {
    for (const Json& value : wrong) {
      Json other = content;
      other[place] = value;
      found.push_back(other.dump());
    }
  }
  return found;
}

std::string read(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw std::runtime_error("there is no " + file.string() + ": run make_vectors.py");
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

void write(const std::filesystem::path& file, const std::string& content) {
  std::ofstream stream(file, std::ios::binary);
  stream << content;
  if (!stream.flush()) throw std::runtime_error("cannot write " + file.string());
}

Scratch::Scratch() {
  std::string name = (std::filesystem::temp_directory_path() / "edgefer-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make " + name);
  folder_ = name;
}

Scratch::~Scratch() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

}  // namespace vectors
