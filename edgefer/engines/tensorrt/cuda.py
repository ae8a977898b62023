"""CUDA as a session needs it, through either of two packages: cuda-bindings, or pycuda, which many Jetsons have.

Both work in the primary context, the one that torch and the CUDA runtime share, so that pointers and streams of an
application are good here. It is pushed for as long as a call lasts and popped again, in whichever thread the call is
made. Once taken, the process keeps it: TensorRT's kernels are loaded into it, as are those of everything else.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from edgefer.engines.tensorrt.driver import Device
from edgefer.errors import EdgeferError
from edgefer.memory import available_memory

Bytes = NDArray[np.uint8]

NON_BLOCKING: Final = 1  # CU_STREAM_NON_BLOCKING: it does not wait for the legacy default stream, which torch uses
_HINT: Final = "pip install 'cuda-python<13' with CUDA 12 (JetPack 6), 'cuda-python' with CUDA 13 (JetPack 7)"
_OPENING: Final = threading.Lock()


class Owned:
    """Something that CUDA made and that is given back once: memory, a stream, an event or a graph.

    Attributes:
        number: its address or handle.
        value: what the package calls it.
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


class Cuda(Protocol):
    """A package over one GPU. Everything but :meth:`current` is called inside ``with cuda.current():``.

    Every method raises EdgeferError where CUDA fails, naming its call.

    Attributes:
        package: the package's name.
        graphs: what captures and replays CUDA graphs; None where the package cannot.
    """

    package: str
    graphs: Graphs | None

    def current(self) -> AbstractContextManager[None]:
        """Makes the primary context this thread's current one until the block ends."""

    def foreign(self) -> bool:
        """Whether this thread's current context is another one than the primary: asked outside :meth:`current`."""

    def free_bytes(self) -> int:
        """What CUDA calls free."""

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
    try:
        from edgefer.engines.tensorrt.cuda_bindings import CudaBindings

        return CudaBindings()
    except ImportError as cause:
        reasons.append(str(cause))
    try:
        from edgefer.engines.tensorrt.cuda_pycuda import PyCuda

        return PyCuda()
    except ImportError as cause:
        reasons.append(str(cause))
    raise EdgeferError(
        f"TensorRT on a GPU needs cuda-bindings or pycuda, and neither can be imported: {'; '.join(reasons)}",
        hint=_HINT,
    )


def failed(call: str, reason: str) -> EdgeferError:
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
