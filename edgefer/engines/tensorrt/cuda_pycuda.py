"""CUDA through pycuda, which many Jetsons have; it has no CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from edgefer.engines.tensorrt.cuda import NON_BLOCKING, Bytes, Graphs, Owned, failed


class PyCuda:
    """:class:`Cuda` through ``pycuda.driver``; ``pycuda.autoinit``, whose context is a private one, is never imported.

    Raises:
        ImportError: it is not installed.
    """

    package = "pycuda"

    def __init__(self) -> None:
        from pycuda import driver as pycuda

        self._pycuda: Any = pycuda
        self.graphs: Graphs | None = None
        self._do("cuInit", pycuda.init)
        self._primary = self._do("cuDevicePrimaryCtxRetain", pycuda.Device(0).retain_primary_context)

    def _do(self, call: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self._pycuda.Error as cause:
            raise failed(call, str(cause)) from cause

    @contextmanager
    def current(self) -> Iterator[None]:
        self._do("cuCtxPushCurrent", self._primary.push)
        try:
            yield
        finally:
            self._do("cuCtxPopCurrent", self._pycuda.Context.pop)

    def foreign(self) -> bool:
        found = self._pycuda.Context.get_current()
        return found is not None and found != self._primary

    def free_bytes(self) -> int:
        return int(self._do("cuMemGetInfo", self._pycuda.mem_get_info)[0])

    def extent(self, pointer: int) -> int:
        base, size = self._do(f"cuMemGetAddressRange({pointer:#x})", self._pycuda.mem_get_address_range, pointer)
        return int(base) + int(size) - pointer

    def allocate(self, nbytes: int) -> Owned:
        made = self._do(f"cuMemAlloc({nbytes})", self._pycuda.mem_alloc, nbytes)
        return Owned(int(made), made, lambda value: self._do("cuMemFree", value.free))

    def pin(self, nbytes: int) -> Owned:
        host = self._do(f"cuMemHostAlloc({nbytes})", self._pycuda.pagelocked_empty, nbytes, np.uint8)
        return Owned(host.ctypes.data, host.base, lambda value: self._do("cuMemFreeHost", value.free), host)

    def stream(self) -> Owned:
        made = self._do("cuStreamCreate", self._pycuda.Stream, NON_BLOCKING)
        return Owned(int(made.handle), made, _dropped)

    def event(self) -> Owned:
        return Owned(0, self._do("cuEventCreate", self._pycuda.Event), _dropped)

    def upload(self, source: Bytes, target: Owned, stream: Owned) -> None:
        self._do("cuMemcpyHtoDAsync", self._pycuda.memcpy_htod_async, target.number, source, stream.value)

    def download(self, source: Owned, target: Bytes, stream: Owned) -> None:
        self._do("cuMemcpyDtoHAsync", self._pycuda.memcpy_dtoh_async, target, source.number, stream.value)

    def record(self, event: Owned, stream: Owned) -> None:
        self._do("cuEventRecord", event.value.record, stream.value)

    def milliseconds(self, start: Owned, end: Owned) -> float:
        return float(self._do("cuEventElapsedTime", start.value.time_till, end.value))

    def wait(self, stream: Owned) -> None:
        self._do("cuStreamSynchronize", stream.value.synchronize)

    def wait_for_all(self) -> None:
        self._do("cuCtxSynchronize", self._pycuda.Context.synchronize)


def _dropped(value: Any) -> None:
    """Pycuda destroys streams and events with the last reference to them, which was ``value``."""
