"""Memory on the GPU with its counterpart on the host, allocated once and freed in one place."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.engines.tensorrt.cuda import called, runtime
from edgefer.errors import EdgeferError


class Stream:
    """A CUDA stream; a context manager."""

    def __init__(self) -> None:
        self._cudart = runtime()
        self.handle: Any = called(self._cudart.cudaStreamCreate(), "cudaStreamCreate")

    def wait(self) -> None:
        """Until everything that was put on it is done.

        Raises:
            EdgeferError: something on it failed.
        """
        called(self._cudart.cudaStreamSynchronize(self.handle), "cudaStreamSynchronize")

    def close(self) -> None:
        """Destroy it. A second call does nothing."""
        if self.handle is not None:
            called(self._cudart.cudaStreamDestroy(self.handle), "cudaStreamDestroy")
            self.handle = None


class Buffer:
    """Device memory and pinned host memory for an array of up to ``shape``; pinned memory is copied without staging.

    Raises:
        EdgeferError: there is not so much memory.
    """

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self._cudart = runtime()
        self._dtype = np.dtype(dtype)
        self.nbytes = max(1, math.prod(shape) * self._dtype.itemsize)
        self._pinned: Any = None
        self.device: int = int(called(self._cudart.cudaMalloc(self.nbytes), f"cudaMalloc({self.nbytes})"))
        try:
            self._pinned = called(self._cudart.cudaMallocHost(self.nbytes), f"cudaMallocHost({self.nbytes})")
        except EdgeferError:
            called(self._cudart.cudaFree(self.device), "cudaFree")
            raise
        raw = (ctypes.c_uint8 * self.nbytes).from_address(int(self._pinned))
        self._host: NDArray[Any] = np.frombuffer(memoryview(raw), dtype=self._dtype)

    def upload(self, value: NDArray[Any], stream: Stream) -> None:
        """Copy ``value`` to the device, on ``stream``."""
        flat = self._host[: value.size]
        flat[:] = value.reshape(-1)
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        done = self._cudart.cudaMemcpyAsync(self.device, int(self._pinned), flat.nbytes, kind, stream.handle)
        called(done, "cudaMemcpyAsync")

    def download(self, shape: tuple[int, ...], stream: Stream) -> NDArray[Any]:
        """What lies at the beginning of the device memory, as an array of ``shape``; waits for ``stream``."""
        flat = self._host[: math.prod(shape)]
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        done = self._cudart.cudaMemcpyAsync(int(self._pinned), self.device, flat.nbytes, kind, stream.handle)
        called(done, "cudaMemcpyAsync")
        stream.wait()
        result: NDArray[Any] = flat.reshape(shape).copy()
        return result

    def close(self) -> None:
        """Free both. A second call does nothing."""
        if self._pinned is not None:
            called(self._cudart.cudaFreeHost(self._pinned), "cudaFreeHost")
            called(self._cudart.cudaFree(self.device), "cudaFree")
            self._pinned = None
