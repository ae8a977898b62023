#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "edgefer/manifest.hpp"

namespace edgefer {

/// Which instructions the CPU whose /proc/cpuinfo is `cpuinfo` has that decide how fast and how exactly low precisions
/// run; empty where it does not tell.
std::vector<std::string> instruction_set(const std::string& cpuinfo);

/// Whether uint8×int8 kernels saturate unless weights keep to 7 bits: x86 without VNNI.
/// https://github.com/microsoft/onnxruntime/issues/14642
bool saturates(const std::vector<std::string>& instructions);

/// What check_cpu() does on a CPU with the instructions `here`.
void check_instructions(const std::filesystem::path& engine, const Manifest& manifest,
                        const std::vector<std::string>& here);

}  // namespace edgefer
