"""Calls of the CUDA runtime through cuda-bindings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgefer.engines.tensorrt.driver import Device
from edgefer.errors import EdgeferError, require

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
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return max(int(free), int(line.split()[1]) * 1024)
    return int(free)
