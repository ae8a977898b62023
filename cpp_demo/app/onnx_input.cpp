#include "yunet.hpp"

#include <cstdint>

#include "notices.hpp"

// An ONNX file is one protobuf message (onnx.proto of the ONNX project; the wire format is in protobuf's "Encoding"
// page). Only the fields named here are looked into; the others are copied byte by byte.
namespace edgefer::app {
namespace {

constexpr std::uint32_t kModelGraph = 7, kGraphInput = 11, kGraphOutput = 12, kGraphValueInfo = 13;
constexpr std::uint32_t kValueName = 1, kValueType = 2, kTypeTensor = 1, kTensorElement = 1, kTensorShape = 2;
constexpr std::uint32_t kShapeDim = 1, kDimValue = 1;

struct Field {
  std::uint32_t number;
  std::uint32_t kind;       // of the wire: 0 varint, 1 eight bytes, 2 bytes with their length, 5 four bytes
  std::uint64_t value = 0;  // of a varint
  std::string bytes;        // of kind 2
  std::string whole;        // as it stood
};

class Reader {
 public:
  Reader(const std::string& message, const std::string& name) : message_(message), name_(name) {}

  bool at_end() const { return at_ == message_.size(); }

  Field next() {
    const std::size_t start = at_;
    const std::uint64_t tag = varint();
    Field field{static_cast<std::uint32_t>(tag >> 3u), static_cast<std::uint32_t>(tag & 7u), 0, {}, {}};
    if (field.kind == 0) {
      field.value = varint();
    } else if (field.kind == 2) {
      const std::uint64_t length = varint();
      if (length > message_.size() - at_) refuse();
      field.bytes = message_.substr(at_, length);
      at_ += length;
    } else if (field.kind == 1 || field.kind == 5) {
      at_ += field.kind == 1 ? 8 : 4;
      if (at_ > message_.size()) refuse();
    } else {
      refuse();
    }
    field.whole = message_.substr(start, at_ - start);
    return field;
  }

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (at_ == message_.size()) refuse();
      const auto byte = static_cast<unsigned char>(message_[at_++]);
      value |= static_cast<std::uint64_t>(byte & 0x7Fu) << shift;
      if (byte < 0x80) return value;
    }
    refuse();
  }

  [[noreturn]] void refuse() const {
    throw Error(name_ + " is not an ONNX file", "--detector takes face_detection_yunet_2023mar.onnx of OpenCV's zoo");
  }

  const std::string& message_;
  const std::string& name_;
  std::size_t at_ = 0;
};

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7u) bytes += static_cast<char>(value | 0x80u);
  return bytes + static_cast<char>(value);
}

std::string with_length(std::uint32_t number, const std::string& bytes) {
  return varint(std::uint64_t{number} << 3u | 2u) + varint(bytes.size()) + bytes;
}

/// A ValueInfoProto with another shape; without `dims`, with none.
std::string reshaped(const std::string& value, const std::vector<int>& dims, const std::string& name) {
  std::string shape;
  for (const int dim : dims) {
    shape += with_length(kShapeDim, varint(std::uint64_t{kDimValue} << 3u) + varint(static_cast<std::uint64_t>(dim)));
  }
  std::string result;
  for (Reader info(value, name); !info.at_end();) {
    const Field field = info.next();
    if (field.number != kValueType) {
      result += field.whole;
      continue;
    }
    std::string type;
    for (Reader parts(field.bytes, name); !parts.at_end();) {
      const Field part = parts.next();
      if (part.number != kTypeTensor) continue;
      std::string tensor;
      for (Reader entries(part.bytes, name); !entries.at_end();) {
        const Field entry = entries.next();
        if (entry.number == kTensorElement) tensor += entry.whole;
      }
      if (!dims.empty()) tensor += with_length(kTensorShape, shape);
      type += with_length(kTypeTensor, tensor);
    }
    result += with_length(kValueType, type);
  }
  return result;
}

std::string name_of(const std::string& value, const std::string& name) {
  for (Reader info(value, name); !info.at_end();) {
    const Field field = info.next();
    if (field.number == kValueName) return field.bytes;
  }
  return "";
}

}  // namespace

OnnxNames onnx_names(const std::string& model, const std::string& name) {
  OnnxNames names;
  for (Reader top(model, name); !top.at_end();) {
    const Field field = top.next();
    if (field.number != kModelGraph || field.kind != 2) continue;
    for (Reader graph(field.bytes, name); !graph.at_end();) {
      const Field part = graph.next();
      if (part.number == kGraphInput) names.inputs.push_back(name_of(part.bytes, name));
      if (part.number == kGraphOutput) names.outputs.push_back(name_of(part.bytes, name));
    }
  }
  return names;
}

std::string with_input_size(const std::string& model, int height, int width, const std::string& name) {
  std::string result;
  for (Reader top(model, name); !top.at_end();) {
    const Field field = top.next();
    if (field.number != kModelGraph || field.kind != 2) {
      result += field.whole;
      continue;
    }
    std::string graph;
    for (Reader parts(field.bytes, name); !parts.at_end();) {
      const Field part = parts.next();
      if (part.number == kGraphInput) {
        graph += with_length(kGraphInput, reshaped(part.bytes, {1, 3, height, width}, name));
      } else if (part.number == kGraphOutput) {
        graph += with_length(kGraphOutput, reshaped(part.bytes, {}, name));
      } else if (part.number != kGraphValueInfo) {
        graph += part.whole;
      }
    }
    result += with_length(kModelGraph, graph);
  }
  return result;
}

}  // namespace edgefer::app
