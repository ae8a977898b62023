"""The CUDA driver, asked through ctypes before TensorRT is: without a driver some of its calls crash the process."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Final

from edgefer.errors import EdgeferError, require
from edgefer.memory import available_memory

_LIBRARY: Final = "libcuda.so.1"
_MAJOR: Final = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, cuda.h
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


def probe(index: int = 0) -> Device:
    """The GPU number ``index``. It makes no CUDA context and needs no CUDA package.

    Raises:
        EdgeferError: there is no driver, it cannot start, or it has no such GPU.
    """
    driver = _driver()
    count = ctypes.c_int()
    _check(driver.cuDeviceGetCount(ctypes.byref(count)), "cuDeviceGetCount")
    if index >= count.value:
        raise EdgeferError(f"the NVIDIA driver is here, but no GPU number {index}: it has {count.value}", hint=_HINT)
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


def _attribute(driver: Any, which: int, handle: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _check(driver.cuDeviceGetAttribute(ctypes.byref(value), which, handle), "cuDeviceGetAttribute")
    return value.value


def _check(code: int, call: str) -> None:
    if code:
        raise EdgeferError(f"the NVIDIA driver failed: {call} returned {code}", hint="`nvidia-smi` says more")


def runtime() -> Any:
    """The module of cuda-bindings that wraps the CUDA runtime, which works in the primary context as torch does.

    Raises:
        EdgeferError: cuda-bindings is not installed.
    """
    try:
        from cuda.bindings import runtime as cudart
    except ImportError:
        cudart = None
    return cudart if cudart is not None else require("cuda.cudart", "tensorrt", "running a TensorRT engine")


def called(result: tuple[Any, ...], what: str) -> Any:
    """The values of a cuda-bindings call, which returns ``(error, values…)``; one value comes bare.

    Raises:
        EdgeferError: the error is not success; for memory, with what to lower.
    """
    error, *values = result
    if int(error):
        memory = "memory" in str(getattr(error, "name", error)).lower()
        raise EdgeferError(
            f"CUDA failed: {what} returned {getattr(error, 'name', error)}",
            hint="build with a smaller --max-batch, or stop what else uses the GPU" if memory else "`nvidia-smi`",
        )
    return values[0] if len(values) == 1 else tuple(values)


def free_bytes(device: Device) -> int:
    """Memory that a build can really have: what CUDA calls free and, where it is shared, what Linux calls available.

    On a Jetson CUDA counts as used what is only file cache, so there the larger of the two holds.
    """
    cudart = runtime()
    free, _ = called(cudart.cudaMemGetInfo(), "cudaMemGetInfo")
    if not device.integrated:
        return int(free)
    return max(int(free), available_memory())
