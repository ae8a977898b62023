#include "edgefer.h"

#include <algorithm>
#include <exception>
#include <string>
#include <vector>

#include "edgefer/classifier.hpp"
#include "edgefer/error.hpp"
#include "edgefer/faces.hpp"

struct edgefer_engine {
  edgefer::Classifier classifier;
  std::vector<std::uint8_t> faces;
};

namespace {

struct Fault {
  std::string error, hint;
};

Fault& last() {
  thread_local Fault fault;
  return fault;
}

/// Run `body`; no exception leaves the library through C.
template <class Body>
int guarded(const Body& body) noexcept {
  last() = {};
  try {
    body();
    return 0;
  } catch (const edgefer::Error& fault) {
    last() = {fault.message(), fault.hint()};
  } catch (const std::exception& fault) {
    last() = {fault.what(), ""};
  }
  return -1;
}

edgefer::Format format_of(edgefer_format format) {
  switch (format) {
    case EDGEFER_GREY:
      return edgefer::Format::grey;
    case EDGEFER_RGB:
      return edgefer::Format::rgb;
    case EDGEFER_BGR:
      return edgefer::Format::bgr;
  }
  throw edgefer::Error("there is no format " + std::to_string(static_cast<int>(format)),
                       "EDGEFER_GREY, EDGEFER_RGB or EDGEFER_BGR");
}

void need(bool given, const char* what) {
  if (!given) throw edgefer::Error(std::string(what) + " is NULL", "pass one");
}

}  // namespace

int edgefer_open(const char* path, int threads, edgefer_engine** engine) {
  return guarded([&] {
    need(engine != nullptr, "engine");
    *engine = nullptr;
    need(path != nullptr, "path");
    *engine = new edgefer_engine{edgefer::Classifier::load(path, threads), {}};
  });
}

void edgefer_close(edgefer_engine* engine) { delete engine; }

size_t edgefer_labels(const edgefer_engine* engine) {
  return engine == nullptr ? 0 : engine->classifier.contract().labels.size();
}

const char* edgefer_label(const edgefer_engine* engine, size_t index) {
  return index < edgefer_labels(engine) ? engine->classifier.contract().labels[index].c_str() : nullptr;
}

int edgefer_classify(edgefer_engine* engine, const uint8_t* pixels, int width, int height, ptrdiff_t stride,
                     edgefer_format format, const edgefer_box* boxes, size_t count, float* probabilities) {
  return guarded([&] {
    need(engine != nullptr, "engine");
    need(count == 0 || boxes != nullptr, "boxes");
    need(count == 0 || probabilities != nullptr, "probabilities");
    if (count == 0) return;
    const edgefer::Contract& contract = engine->classifier.contract();
    const edgefer::Image image{pixels, width, height, stride, format_of(format)};
    engine->faces.resize(count * contract.face_bytes());
    for (size_t i = 0; i < count; ++i) {
      const edgefer::Box box{boxes[i].x, boxes[i].y, boxes[i].width, boxes[i].height};
      edgefer::prepare(image, contract, box, engine->faces.data() + i * contract.face_bytes());
    }
    const std::vector<float>& rows = engine->classifier.probabilities(engine->faces.data(), count);
    std::copy(rows.begin(), rows.end(), probabilities);
  });
}

const char* edgefer_error(void) { return last().error.c_str(); }

const char* edgefer_hint(void) { return last().hint.c_str(); }
