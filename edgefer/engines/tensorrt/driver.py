"""The CUDA driver, asked through ctypes before TensorRT is: without a driver some of its calls crash the process.

It makes no CUDA context and needs no package, so it can be asked on any machine. Names and numbers are those of cuda.h.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Final

from edgefer.errors import EdgeferError

_LIBRARY: Final = "libcuda.so.1"
_MAJOR: Final = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
_MINOR: Final = 76
_INTEGRATED: Final = 18  # CU_DEVICE_ATTRIBUTE_INTEGRATED: shares its memory with the CPU, as a Jetson's does
_HINT: Final = (
    "an engine is built and run on the machine with the GPU; here, `build-engine --onnx-only --for JETPACK` writes "
    "what that machine builds from"
)


@dataclass(frozen=True)
class Device:
    """A GPU: its name, its compute capability (``"SM87"``) and whether it shares its memory with the CPU."""

    name: str
    capability: str
    integrated: bool

    def __str__(self) -> str:
        return f"{self.name}, {self.capability}"


@dataclass(frozen=True)
class Driver:
    """What the NVIDIA driver says of itself and of its GPUs.

    Attributes:
        cuda: the newest CUDA that it serves, ``"12.6"``; None where there is no driver that starts.
        devices: its GPUs, in CUDA's order.
        problem: why no GPU can be used; None where one can.
    """

    cuda: str | None
    devices: tuple[Device, ...]
    problem: EdgeferError | None


def survey() -> Driver:
    """The driver and all its GPUs. It never raises: what is wrong is in ``problem``, with its hint."""
    cuda: str | None = None
    found: list[Device] = []
    try:
        driver = _driver()
        cuda = _cuda_of(driver)
        found += (_device(driver, index) for index in range(max(_count(driver), 1)))
    except EdgeferError as fault:
        return Driver(cuda, tuple(found), fault)
    return Driver(cuda, tuple(found), None)


def probe(index: int = 0) -> Device:
    """The GPU number ``index``.

    Raises:
        EdgeferError: there is no driver, it cannot start, or it has no such GPU.
    """
    return _device(_driver(), index)


def _device(driver: Any, index: int) -> Device:
    count = _count(driver)
    if index >= count:
        raise EdgeferError(f"the NVIDIA driver is here, but no GPU number {index}: it has {count}", hint=_HINT)
    handle, text = ctypes.c_int(), ctypes.create_string_buffer(256)
    _check(driver.cuDeviceGet(ctypes.byref(handle), index), "cuDeviceGet")
    _check(driver.cuDeviceGetName(text, len(text), handle), "cuDeviceGetName")
    major, minor, integrated = (_attribute(driver, which, handle) for which in (_MAJOR, _MINOR, _INTEGRATED))
    return Device(text.value.decode(errors="replace"), f"SM{major}{minor}", bool(integrated))


def _driver() -> Any:
    try:
        driver = ctypes.CDLL(_LIBRARY)
    except OSError as cause:
        raise EdgeferError(f"there is no NVIDIA driver here: {_LIBRARY} cannot be loaded", hint=_HINT) from cause
    code = driver.cuInit(0)
    if code:
        raise EdgeferError(
            f"the NVIDIA driver cannot start: cuInit returned {code}",
            hint="`nvidia-smi` says more; in a container, run it with --gpus all or --runtime nvidia",
        )
    return driver


def _cuda_of(driver: Any) -> str:
    """CuDriverGetVersion gives 1000 · major + 10 · minor."""
    version = ctypes.c_int()
    _check(driver.cuDriverGetVersion(ctypes.byref(version)), "cuDriverGetVersion")
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _count(driver: Any) -> int:
    count = ctypes.c_int()
    _check(driver.cuDeviceGetCount(ctypes.byref(count)), "cuDeviceGetCount")
    return count.value


def _attribute(driver: Any, which: int, handle: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _check(driver.cuDeviceGetAttribute(ctypes.byref(value), which, handle), "cuDeviceGetAttribute")
    return value.value


def _check(code: int, call: str) -> None:
    if code:
        raise EdgeferError(f"the NVIDIA driver failed: {call} returned {code}", hint="`nvidia-smi` says more")
