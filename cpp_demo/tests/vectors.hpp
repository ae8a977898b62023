#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "edgefer/smoothing.hpp"
#include "edgefer/tracking.hpp"

// What make_vectors.py wrote, as plain values: only vectors.cpp knows that it is JSON.

namespace vectors {

/// The folder with the vectors; the environment variable EDGEFER_VECTORS.
std::filesystem::path folder();

struct Bytes {
  std::vector<int> shape;
  std::vector<std::uint8_t> values;
};

struct FaceCase {
  Bytes image, face;
  edgefer::Format format;
  bool whole;  // no box
  edgefer::Box box;
  edgefer::Square square;  // of turned cases
  edgefer::Contract contract;

  edgefer::Image view() const;
};

std::vector<FaceCase> faces(const std::string& file);

struct Step {
  double at;
  bool reset, searched, wants_search;
  std::vector<edgefer::Detection> found;
  std::vector<edgefer::TrackedFace> tracks;
};

struct Video {
  int confirmations;
  std::vector<Step> steps;
};

std::vector<Video> tracking();

struct Calming {
  double at;
  std::vector<float> in, out;
  int label;
};

struct Mood {
  edgefer::Smoothing::Kind kind;
  std::vector<Calming> steps;
};

std::vector<Mood> smoothing();

/// 13 synthetic faces of 48×48×1, and rows of answers under a name such as "fp32", one after the other.
std::vector<std::uint8_t> synthetic_faces();
std::vector<float> answers(const std::string& name);

/// A manifest with the members of `changes` (JSON merge patch, RFC 7396) put over those of `text`.
std::string changed(const std::string& text, const std::string& changes);

/// `text` once for each value in it, each time with another one replaced by something it should not be.
std::vector<std::string> spoilt(const std::string& text);

std::string read(const std::filesystem::path& file);
void write(const std::filesystem::path& file, const std::string& content);

/// An empty folder that is removed with its content.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return folder_ / name; }

 private:
  std::filesystem::path folder_;
};

}  // namespace vectors
