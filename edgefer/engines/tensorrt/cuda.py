"""The GPU: what its driver says of it, and CUDA as a session needs it, through either of two packages.

The driver is asked first, over ctypes: without one, TensorRT and the packages may end the process. The packages are
cuda-bindings, NVIDIA's own, and pycuda, which many Jetsons have. Both work in the primary context, the one that torch
and the CUDA runtime share, so that pointers and streams of an application are good here. It is pushed for as long as a
call lasts and popped again, in whichever thread the call is made. Once taken, the process keeps it: TensorRT's kernels
are loaded into it, as are those of everything else.
"""

from __future__ import annotations

import ctypes
import functools
import math
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from edgefer.errors import EdgeferError
from edgefer.memory import available_memory

Bytes = NDArray[np.uint8]

NON_BLOCKING: Final = 1  # CU_STREAM_NON_BLOCKING: it does not wait for the legacy default stream, which torch uses
EXTERNAL: Final = 1  # CU_EVENT_RECORD_EXTERNAL: an event outside the graph, whose time can be asked for
_INSTALL: Final = "pip install 'cuda-python<13' with CUDA 12 (JetPack 6), 'cuda-python' with CUDA 13 (JetPack 7)"
_OPENING: Final = threading.Lock()
_LIBRARY: Final = "libcuda.so.1"
_MAJOR: Final = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
_MINOR: Final = 76
_INTEGRATED: Final = 18  # CU_DEVICE_ATTRIBUTE_INTEGRATED: shares its memory with the CPU, as a Jetson's does
_ELSEWHERE: Final = (
    "an engine is built and run on the machine with the GPU; here, `build-engine --onnx-only --for JETPACK` writes "
    "what that machine builds from"
)


@dataclass(frozen=True)
class Device:
    """A GPU: its name, its compute capability (``"SM87"``) and whether it shares its memory with the CPU.

    ``uuid`` is CUDA's name for this one GPU (or part of one), by which NVML finds it too; ``""`` where CUDA has none.
    """

    name: str
    capability: str
    integrated: bool
    uuid: str = ""

    def __str__(self) -> str:
        return f"{self.name}, {self.capability}"


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver and its GPUs.

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
        version = _asked(driver, "cuDriverGetVersion")  # 1000 · major + 10 · minor
        cuda = f"{version // 1000}.{version % 1000 // 10}"
        found += (_device(driver, index) for index in range(max(_asked(driver, "cuDeviceGetCount"), 1)))
    except EdgeferError as fault:
        return Driver(cuda, tuple(found), fault)
    return Driver(cuda, tuple(found), None)


def find_gpu(index: int = 0) -> Device:
    """The GPU number ``index``.

    Raises:
        EdgeferError: there is no driver, it cannot start, or it has no such GPU.
    """
    return _device(_driver(), index)


def _device(driver: Any, index: int) -> Device:
    count = _asked(driver, "cuDeviceGetCount")
    if index >= count:
        raise EdgeferError(f"the NVIDIA driver is here, but no GPU number {index}: it has {count}", hint=_ELSEWHERE)
    handle, text = _asked(driver, "cuDeviceGet", index), ctypes.create_string_buffer(256)
    _check(driver.cuDeviceGetName(text, len(text), handle), "cuDeviceGetName")
    major, minor, integrated = (
        _asked(driver, "cuDeviceGetAttribute", which, handle) for which in (_MAJOR, _MINOR, _INTEGRATED)
    )
    return Device(text.value.decode(errors="replace"), f"SM{major}{minor}", bool(integrated), _uuid(driver, handle))


def _uuid(driver: Any, handle: int) -> str:
    """In the form of NVML's, without its ``GPU-``; ``""`` where the driver does not tell."""
    # since CUDA 11.4 the second is the one that knows parts of a GPU (MIG)
    ask = getattr(driver, "cuDeviceGetUuid_v2", None) or getattr(driver, "cuDeviceGetUuid", None)
    octets = (ctypes.c_ubyte * 16)()
    return "" if ask is None or ask(ctypes.byref(octets), handle) else str(uuid.UUID(bytes=bytes(octets)))


def _driver() -> Any:
    try:
        driver = ctypes.CDLL(_LIBRARY)
    except OSError as cause:
        raise EdgeferError(f"there is no NVIDIA driver here: {_LIBRARY} cannot be loaded", hint=_ELSEWHERE) from cause
    code = driver.cuInit(0)
    if code:
        raise EdgeferError(
            f"the NVIDIA driver cannot start: cuInit returned {code}",
            hint="`nvidia-smi` says more; in a container, run it with --gpus all or --runtime nvidia",
        )
    return driver


def _asked(driver: Any, call: str, *arguments: int) -> int:
    """The number that ``call`` of the driver writes where its first argument points to."""
    value = ctypes.c_int()
    _check(getattr(driver, call)(ctypes.byref(value), *arguments), call)
    return value.value


def _check(code: int, call: str) -> None:
    if code:
        raise EdgeferError(f"the NVIDIA driver failed: {call} returned {code}", hint="`nvidia-smi` says more")


class Owned:
    """Something that CUDA made and that is given back once: memory, a stream, an event or a graph.

    Attributes:
        number: its address or handle.
        value: its value in the package.
        host: pinned memory as uint8; None for everything else.
    """

    def __init__(self, number: int, value: Any, give_back: Callable[[Any], object], host: Bytes | None = None) -> None:
        self.number = number
        self.value = value
        self.host = host
        self._give_back = give_back

    def close(self) -> None:
        """Give it back. A second call does nothing."""
        if self.value is not None:
            value, self.value, self.host = self.value, None, None
            self._give_back(value)


class Graphs(Protocol):
    """CUDA graphs: work that is recorded once and enqueued as one piece."""

    def capture(self, stream: Owned, enqueue: Callable[[], bool]) -> Owned:
        """A CUDA graph of what ``enqueue`` puts on ``stream``; it answers whether it could."""

    def launch(self, graph: Owned, stream: Owned) -> None:
        """Enqueue the graph."""

    def record_inside(self, event: Owned, stream: Owned) -> None:
        """While ``stream`` is captured: make the graph record ``event`` at this place whenever it is launched."""


class Cuda(Protocol):
    """A package over one GPU. Everything but :meth:`current` is called inside ``with cuda.current():``.

    Every method raises EdgeferError where CUDA fails, naming its call.

    Attributes:
        package: the package's name.
        graphs: captures and replays CUDA graphs; None where the package cannot.
    """

    package: str
    graphs: Graphs | None

    def current(self) -> AbstractContextManager[None]:
        """Makes the primary context this thread's current one until the block ends."""

    def foreign(self) -> bool:
        """Whether this thread's current context is another one than the primary: asked outside :meth:`current`."""

    def free_bytes(self) -> int:
        """Free device memory, as CUDA reports it."""

    def extent(self, pointer: int) -> int:
        """Bytes from ``pointer`` to the end of the allocation that it lies in."""

    def allocate(self, nbytes: int) -> Owned:
        """Device memory."""

    def pin(self, nbytes: int) -> Owned:
        """Page-locked host memory, which is copied without staging."""

    def stream(self) -> Owned:
        """A stream that does not wait for the default one."""

    def event(self) -> Owned:
        """An event with a time."""

    def upload(self, source: Bytes, target: Owned, stream: Owned) -> None:
        """Enqueue a copy of pinned ``source`` to the beginning of ``target``."""

    def download(self, source: Owned, target: Bytes, stream: Owned) -> None:
        """Enqueue a copy of the beginning of ``source`` to pinned ``target``."""

    def record(self, event: Owned, stream: Owned) -> None:
        """Enqueue the event."""

    def milliseconds(self, start: Owned, end: Owned) -> float:
        """Between two events that have happened."""

    def wait(self, stream: Owned) -> None:
        """Until everything on ``stream`` is done."""

    def wait_for_all(self) -> None:
        """Until everything on every stream is done."""


def open_cuda() -> Cuda:
    """CUDA through the package that is installed, cuda-bindings first; one a process.

    Raises:
        EdgeferError: neither package is there, or it does not fit the driver.
    """
    with _OPENING:
        return _opened()


@functools.cache
def _opened() -> Cuda:
    reasons = []
    for package in (CudaBindings, PyCuda):
        try:
            return package()
        except ImportError as cause:
            reasons.append(str(cause))
    raise EdgeferError(
        f"TensorRT on a GPU needs cuda-bindings or pycuda, and neither can be imported: {'; '.join(reasons)}",
        hint=_INSTALL,
    )


def cuda_error(call: str, reason: str) -> EdgeferError:
    """The error for a call of CUDA that failed; for memory, with what to lower."""
    memory = "memory" in reason.lower() and "address" not in reason.lower()
    return EdgeferError(
        f"CUDA failed: {call}: {reason}",
        hint="build with a smaller --max-batch, or stop what else uses the GPU"
        if memory
        else "`nvidia-smi` or, on a Jetson, `sudo dmesg` says more; after a fault of the GPU start the process anew",
    )


def free_bytes(cuda: Cuda, device: Device) -> int:
    """Memory that a build can really have: what CUDA calls free and, where it is shared, what Linux calls available.

    On a Jetson CUDA counts as used what is only file cache, so there the larger of the two holds.
    """
    free = cuda.free_bytes()
    if not device.integrated:
        return free
    return max(free, available_memory())


class Buffer:
    """Device memory and pinned host memory for an array of up to ``shape``.

    Like every use of ``cuda``, it is made, used and closed inside ``with cuda.current():``.

    Raises:
        EdgeferError: there is not so much memory.
    """

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: str) -> None:
        self._cuda = cuda
        self._dtype = np.dtype(dtype)
        nbytes = max(1, math.prod(shape) * self._dtype.itemsize)
        self._device = cuda.allocate(nbytes)
        try:
            self._pinned = cuda.pin(nbytes)
        except BaseException:
            self._device.close()
            raise

    @property
    def address(self) -> int:
        """Address of the device memory."""
        return self._device.number

    def fill(self, value: NDArray[Any]) -> None:
        """Copy ``value`` to the beginning of the pinned memory."""
        self._view(value.shape)[...] = value

    def upload(self, shape: tuple[int, ...], stream: Owned) -> None:
        """Enqueue the copy of an array of ``shape`` to the device."""
        self._cuda.upload(self._bytes(shape), self._device, stream)

    def download(self, shape: tuple[int, ...], stream: Owned) -> None:
        """Enqueue the copy of an array of ``shape`` from the device."""
        self._cuda.download(self._device, self._bytes(shape), stream)

    def taken(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """A copy of the array of ``shape`` at the beginning of the pinned memory."""
        result: NDArray[Any] = self._view(shape).copy()
        return result

    def close(self) -> None:
        """Free both. A second call does nothing."""
        try:
            self._pinned.close()
        finally:
            self._device.close()

    def _bytes(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        whole: Any = self._pinned.host
        part: NDArray[np.uint8] = whole[: math.prod(shape) * self._dtype.itemsize]
        return part

    def _view(self, shape: tuple[int, ...]) -> NDArray[Any]:
        return self._bytes(shape).view(self._dtype).reshape(shape)


def called(result: tuple[Any, ...], call: str) -> Any:
    """The values of a cuda-bindings call, which returns ``(error, values…)``; one value comes bare.

    Raises:
        EdgeferError: the error is not success.
    """
    error, *values = result
    if int(error):
        raise cuda_error(call, str(getattr(error, "name", error)))
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
                raise cuda_error(
                    "capturing a CUDA graph", "TensorRT could not enqueue the engine while it was captured"
                )
            made = called(driver.cuGraphInstantiate(graph, 0), "cuGraphInstantiate")
        finally:
            called(driver.cuGraphDestroy(graph), "cuGraphDestroy")
        return Owned(int(made), made, lambda value: called(driver.cuGraphExecDestroy(value), "cuGraphExecDestroy"))

    def record_inside(self, event: Owned, stream: Owned) -> None:
        done = self._driver.cuEventRecordWithFlags(event.value, stream.value, EXTERNAL)
        called(done, "cuEventRecordWithFlags")

    def launch(self, graph: Owned, stream: Owned) -> None:
        called(self._driver.cuGraphLaunch(graph.value, stream.value), "cuGraphLaunch")


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
            raise cuda_error(call, str(cause)) from cause

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
