"""CUDA through cuda-bindings, NVIDIA's own package: functions of the driver, which answer ``(error, values…)``."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from edgefer.engines.tensorrt.cuda import NON_BLOCKING, Bytes, Graphs, Owned, failed
from edgefer.engines.tensorrt.driver import survey
from edgefer.errors import EdgeferError


def called(result: tuple[Any, ...], call: str) -> Any:
    """The values of a cuda-bindings call, which returns ``(error, values…)``; one value comes bare.

    Raises:
        EdgeferError: the error is not success.
    """
    error, *values = result
    if int(error):
        raise failed(call, str(getattr(error, "name", error)))
    return values[0] if len(values) == 1 else tuple(values)


class CudaBindings:
    """:class:`Cuda` through ``cuda.bindings.driver`` of NVIDIA's cuda-bindings (cuda-python).

    Raises:
        ImportError: it is not installed.
        EdgeferError: it is for a newer CUDA than the driver serves, and would lack functions there.
    """

    package = "cuda-bindings"

    def __init__(self) -> None:
        from cuda.bindings import driver

        self._driver: Any = driver
        self.graphs: Graphs | None = self
        called(driver.cuInit(0), "cuInit")
        served = survey().cuda
        major = driver.CUDA_VERSION // 1000
        if served is not None and int(served.split(".")[0]) < major:
            raise EdgeferError(
                f"cuda-bindings is for CUDA {major}, and the driver serves CUDA {served}",
                hint=f"pip install 'cuda-python<{major}'",
            )
        device = called(driver.cuDeviceGet(0), "cuDeviceGet")
        self._primary = called(driver.cuDevicePrimaryCtxRetain(device), "cuDevicePrimaryCtxRetain")

    @contextmanager
    def current(self) -> Iterator[None]:
        called(self._driver.cuCtxPushCurrent(self._primary), "cuCtxPushCurrent")
        try:
            yield
        finally:
            called(self._driver.cuCtxPopCurrent(), "cuCtxPopCurrent")

    def foreign(self) -> bool:
        return int(called(self._driver.cuCtxGetCurrent(), "cuCtxGetCurrent")) not in (0, int(self._primary))

    def free_bytes(self) -> int:
        return int(called(self._driver.cuMemGetInfo(), "cuMemGetInfo")[0])

    def extent(self, pointer: int) -> int:
        base, size = called(self._driver.cuMemGetAddressRange(pointer), f"cuMemGetAddressRange({pointer:#x})")
        return int(base) + int(size) - pointer

    def allocate(self, nbytes: int) -> Owned:
        pointer = called(self._driver.cuMemAlloc(nbytes), f"cuMemAlloc({nbytes})")
        return Owned(int(pointer), pointer, lambda value: called(self._driver.cuMemFree(value), "cuMemFree"))

    def pin(self, nbytes: int) -> Owned:
        address = called(self._driver.cuMemAllocHost(nbytes), f"cuMemAllocHost({nbytes})")
        host = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(int(address)))
        return Owned(
            int(address), address, lambda value: called(self._driver.cuMemFreeHost(value), "cuMemFreeHost"), host
        )

    def stream(self) -> Owned:
        made = called(self._driver.cuStreamCreate(NON_BLOCKING), "cuStreamCreate")
        return Owned(int(made), made, lambda value: called(self._driver.cuStreamDestroy(value), "cuStreamDestroy"))

    def event(self) -> Owned:
        made = called(self._driver.cuEventCreate(0), "cuEventCreate")
        return Owned(int(made), made, lambda value: called(self._driver.cuEventDestroy(value), "cuEventDestroy"))

    def upload(self, source: Bytes, target: Owned, stream: Owned) -> None:
        done = self._driver.cuMemcpyHtoDAsync(target.value, source.ctypes.data, source.nbytes, stream.value)
        called(done, "cuMemcpyHtoDAsync")

    def download(self, source: Owned, target: Bytes, stream: Owned) -> None:
        done = self._driver.cuMemcpyDtoHAsync(target.ctypes.data, source.value, target.nbytes, stream.value)
        called(done, "cuMemcpyDtoHAsync")

    def record(self, event: Owned, stream: Owned) -> None:
        called(self._driver.cuEventRecord(event.value, stream.value), "cuEventRecord")

    def milliseconds(self, start: Owned, end: Owned) -> float:
        return float(called(self._driver.cuEventElapsedTime(start.value, end.value), "cuEventElapsedTime"))

    def wait(self, stream: Owned) -> None:
        called(self._driver.cuStreamSynchronize(stream.value), "cuStreamSynchronize")

    def wait_for_all(self) -> None:
        called(self._driver.cuCtxSynchronize(), "cuCtxSynchronize")

    def capture(self, stream: Owned, enqueue: Callable[[], bool]) -> Owned:
        driver = self._driver
        # thread-local: what other threads do, torch's allocations for instance, does not spoil it
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        called(driver.cuStreamBeginCapture(stream.value, mode), "cuStreamBeginCapture")
        try:
            worked = enqueue()
        finally:  # the stream must leave the capture in any case
            ended = driver.cuStreamEndCapture(stream.value)
        graph = called(ended, "cuStreamEndCapture")
        try:
            if not worked:
                raise failed("capturing a CUDA graph", "TensorRT could not enqueue the engine while it was captured")
            made = called(driver.cuGraphInstantiate(graph, 0), "cuGraphInstantiate")
        finally:
            called(driver.cuGraphDestroy(graph), "cuGraphDestroy")
        return Owned(int(made), made, lambda value: called(driver.cuGraphExecDestroy(value), "cuGraphExecDestroy"))

    def launch(self, graph: Owned, stream: Owned) -> None:
        called(self._driver.cuGraphLaunch(graph.value, stream.value), "cuGraphLaunch")
