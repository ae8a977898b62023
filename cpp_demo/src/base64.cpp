#include "base64.hpp"

#include <stdexcept>

namespace edgefer {
namespace {

std::uint32_t digit(char letter) {
  if (letter >= 'A' && letter <= 'Z') return static_cast<std::uint32_t>(letter - 'A');
  if (letter >= 'a' && letter <= 'z') return static_cast<std::uint32_t>(letter - 'a') + 26;
  if (letter >= '0' && letter <= '9') return static_cast<std::uint32_t>(letter - '0') + 52;
  if (letter == '+') return 62;
  if (letter == '/') return 63;
  throw std::invalid_argument("a character that base64 does not have");
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

}  // namespace edgefer
