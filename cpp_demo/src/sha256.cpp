// SHA-256 as FIPS 180-4 has it, section 6.2: short enough that the library needs no OpenSSL for one hash at start-up.

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <vector>

#include "edgefer/error.hpp"
#include "edgefer/manifest.hpp"

namespace edgefer {
namespace {

constexpr std::array<std::uint32_t, 64> constants = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

constexpr std::size_t block_size = 64;

constexpr std::uint32_t turned(std::uint32_t value, unsigned by) { return value >> by | value << (32 - by); }

class Sha256 {
 public:
  void add(const std::uint8_t* data, std::size_t size) {
    total_ += size;
    while (size > 0) {
      const std::size_t taken = std::min(size, block_size - filled_);
      std::memcpy(block_.data() + filled_, data, taken);
      filled_ += taken;
      data += taken;
      size -= taken;
      if (filled_ == block_size) mix();
    }
  }

  std::string hex() {
    const std::uint64_t bits = total_ * 8;
    const std::uint8_t one = 0x80, zero = 0;
    add(&one, 1);
    while (filled_ != block_size - 8) add(&zero, 1);
    for (unsigned shift = 64; shift > 0; shift -= 8) block_[filled_++] = static_cast<std::uint8_t>(bits >> (shift - 8));
    mix();
    std::string text;
    for (const std::uint32_t word : state_) {
      for (unsigned shift = 32; shift > 0; shift -= 4) text += "0123456789abcdef"[word >> (shift - 4) & 0xF];
    }
    return text;
  }

 private:
  void mix() {
    std::array<std::uint32_t, 64> words{};
    for (std::size_t i = 0; i < 16; ++i) {
      for (std::size_t byte = 0; byte < 4; ++byte) words[i] = words[i] << 8 | block_[4 * i + byte];
    }
    for (std::size_t i = 16; i < 64; ++i) {
      const std::uint32_t near = words[i - 2], far = words[i - 15];
      words[i] = words[i - 16] + (turned(far, 7) ^ turned(far, 18) ^ far >> 3) + words[i - 7] +
                 (turned(near, 17) ^ turned(near, 19) ^ near >> 10);
    }
    auto [a, b, c, d, e, f, g, h] = state_;
    for (std::size_t i = 0; i < 64; ++i) {
      const std::uint32_t first =
          h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + constants[i] + words[i];
      const std::uint32_t second = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + first;
      d = c, c = b, b = a, a = first + second;
    }
    const std::array<std::uint32_t, 8> added = {a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i) state_[i] += added[i];
    filled_ = 0;
  }

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::uint8_t, block_size> block_{};
  std::size_t filled_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace

std::string sha256(const void* data, std::size_t size) {
  Sha256 hash;
  hash.add(static_cast<const std::uint8_t*>(data), size);
  return hash.hex();
}

std::string sha256_file(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::vector<char> chunk(std::size_t{1} << 16);
  Sha256 hash;
  while (stream.good()) {
    stream.read(chunk.data(), static_cast<std::streamsize>(chunk.size()));
    hash.add(reinterpret_cast<const std::uint8_t*>(chunk.data()), static_cast<std::size_t>(stream.gcount()));
  }
  if (!stream.eof()) throw Error(file.string() + " cannot be read", "check the path and its permissions");
  return hash.hex();
}

}  // namespace edgefer
