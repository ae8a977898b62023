# 64-bit ARM with Debian's and Ubuntu's cross compiler, g++-aarch64-linux-gnu.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
# Tests run under qemu; the CPU is named, since OpenVINO computes wrongly on the one that has everything (-cpu max).
find_program(_qemu NAMES qemu-aarch64-static qemu-aarch64)
if(_qemu)
  set(CMAKE_CROSSCOMPILING_EMULATOR "${_qemu};-cpu;cortex-a76;-L;/usr/aarch64-linux-gnu")
endif()
