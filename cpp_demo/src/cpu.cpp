#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include "edgefer/error.hpp"
#include "edgefer/notes.hpp"
#include "internal.hpp"

namespace edgefer {
namespace {

// Names as Linux prints them in /proc/cpuinfo: `flags` on x86, `Features` on aarch64. As edgefer/engines/cpu.py.
constexpr std::array<const char*, 13> x86 = {"sse4_1",      "avx",      "avx2",     "fma",         "f16c",
                                             "avx_vnni",    "avx512f",  "avx512bw", "avx512_vnni", "avx512_bf16",
                                             "avx512_fp16", "amx_int8", "amx_bf16"};
constexpr std::array<const char*, 7> arm = {"asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"};
constexpr std::array<const char*, 3> vnni = {"avx_vnni", "avx512_vnni", "amx_int8"};

template <std::size_t N>
bool any(const std::vector<std::string>& present, const std::array<const char*, N>& known) {
  return std::any_of(present.begin(), present.end(),
                     [&](const std::string& one) { return std::find(known.begin(), known.end(), one) != known.end(); });
}

std::string listed(const std::vector<std::string>& instructions) {
  std::string text;
  for (const std::string& one : instructions) text += (text.empty() ? "" : " ") + one;
  return text.empty() ? "unknown instructions" : text;
}

}  // namespace

std::vector<std::string> instruction_set(const std::string& cpuinfo) {
  std::istringstream lines(cpuinfo);
  for (std::string line; std::getline(lines, line);) {
    const bool intel = line.rfind("flags", 0) == 0, other = line.rfind("Features", 0) == 0;
    const std::size_t colon = line.find(':');
    if ((!intel && !other) || colon == std::string::npos) continue;
    std::istringstream words(line.substr(colon + 1));
    const std::set<std::string> present{std::istream_iterator<std::string>(words), {}};
    std::vector<std::string> found;
    const auto keep = [&](const char* name) {
      if (present.count(name) > 0) found.emplace_back(name);
    };
    if (intel) std::for_each(x86.begin(), x86.end(), keep);
    if (other) std::for_each(arm.begin(), arm.end(), keep);
    return found;
  }
  return {};
}

bool saturates(const std::vector<std::string>& instructions) {
  return any(instructions, x86) && !any(instructions, vnni);
}

void check_cpu(const std::filesystem::path& engine, const Manifest& manifest) {
  std::ifstream stream("/proc/cpuinfo");
  const std::string cpuinfo{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  check_instructions(engine, manifest, instruction_set(cpuinfo));
}

void check_instructions(const std::filesystem::path& engine, const Manifest& manifest,
                        const std::vector<std::string>& here) {
  const std::vector<std::string>& built = manifest.instruction_set;
  if (std::set<std::string>(here.begin(), here.end()) == std::set<std::string>(built.begin(), built.end())) return;
  if (manifest.has_int8 && saturates(here) && !saturates(built)) {
    throw Error(engine.string() + " has 8-bit weights, made on a CPU with " + listed(built) + "; this one (" +
                    listed(here) + ") has no VNNI, and its uint8×int8 sums would saturate",
                "build the engine again on this machine: `edgefer build-engine model.onnx --int8` takes 7-bit weights "
                "where sums would saturate");
  }
  if (built.empty() && !manifest.has_int8) return;  // a float file that was compiled for no CPU
  announce(engine.string() + " was built and measured on a CPU with " + listed(built) + "; this one has " +
           listed(here) + ": its speed may differ");
}

}  // namespace edgefer
