#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace edgefer {

/// The bytes that `text` stands for in base64 (RFC 4648, section 4, padded); std::invalid_argument where it is not
/// that.
std::vector<std::uint8_t> base64_decode(const std::string& text);

}  // namespace edgefer
