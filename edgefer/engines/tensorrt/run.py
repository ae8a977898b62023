"""A TensorRT engine as a session: named tensors, buffers made once, one stream in the primary CUDA context."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from numpy.typing import NDArray

from edgefer.engines.tensorrt.binding import import_tensorrt
from edgefer.engines.tensorrt.buffers import Buffer
from edgefer.engines.tensorrt.cuda import Graphs, open_cuda
from edgefer.engines.tensorrt.driver import probe
from edgefer.engines.tensorrt.lanes import Lane, Lanes
from edgefer.engines.tensorrt.loaded import MORE_MEMORY, LoadedEngine
from edgefer.errors import EdgeferError
from edgefer.progress import announce
from edgefer.runtimes import TENSORRT, TENSORRT_RTX

MOST_LANES: Final = 4
"""Batch sizes that keep an execution context and a CUDA graph each, where the version can share a profile."""

_ALONE: Final = threading.RLock()
"""Held while an engine is loaded, captured or freed: TensorRT's log is one a process, and waiting for the whole GPU
fails while another thread captures."""


@dataclass(frozen=True)
class CallTiming:
    """What one call took on the GPU, in ms between CUDA events; ``graph``: whether a captured graph was replayed."""

    upload: float
    compute: float
    download: float
    graph: bool


class TensorRtSession:
    """A :class:`~edgefer.engines.session.Session` over a serialised engine; a context manager that frees what it took.

    Any thread may call it; calls come one after the other. Two sessions run side by side.

    Args:
        plan: the engine's file, or its bytes.
        rtx: whether TensorRT-RTX made it.
        dla_core: the DLA core that it runs on; None where it was not built for one.

    Attributes:
        least, most: the batch sizes that the engine takes.
        timing: of the last :meth:`run`; None before the first.
        without_graphs: why calls are not replayed as a CUDA graph; None where they are, or will be: the first call with
            a batch size is enqueued as it is, the second is captured.

    Raises:
        EdgeferError: no such file; no driver; TensorRT, or both of cuda-bindings and pycuda, are not installed; the
            engine is cut short, or another version's or GPU's; there is no such DLA core; memory ran out.
    """

    def __init__(self, plan: str | os.PathLike[str] | bytes, *, rtx: bool = False, dla_core: int | None = None) -> None:
        self.name = (TENSORRT_RTX if rtx else TENSORRT).name
        probe()  # first: without a driver, the calls below end the process
        _, target = import_tensorrt(rtx)
        self.version = target.name
        self.timing: CallTiming | None = None
        self._lock = threading.RLock()
        self._made: ExitStack | None = None
        self._cuda = cuda = open_cuda()
        self.without_graphs: str | None = None
        if target.has.own_graphs:
            self.without_graphs = f"{target.title} captures CUDA graphs itself"
        elif cuda.graphs is None:
            self.without_graphs = f"{cuda.package} has no CUDA graphs"
        content = plan if isinstance(plan, bytes) else _read(Path(plan))
        with _ALONE, cuda.current(), ExitStack() as made:
            self._loaded = loaded = LoadedEngine(content, rtx=rtx, dla_core=dla_core)
            made.callback(loaded.close)
            self.inputs, self.outputs = loaded.inputs, loaded.outputs
            self.least, self.most = loaded.least, loaded.most
            self._allocate(made, MOST_LANES if target.has.profile_sharing else 1)
            self._made = made.pop_all()

    def _allocate(self, made: ExitStack, lanes: int) -> None:
        """Everything that calls will need, at the largest batch size."""
        cuda = self._cuda
        self._lanes = Lanes(self._loaded.make_context, lanes)
        made.callback(self._lanes.close)
        self._buffers: dict[str, Buffer] = {}
        shapes = self._lane(None, self.most).shapes
        for spec in (*self.inputs, *self.outputs):
            self._buffers[spec.name] = buffer = Buffer(cuda, shapes[spec.name], spec.dtype)
            made.callback(buffer.close)
        self._stream = cuda.stream()
        made.callback(self._stream.close)
        self._marks = []
        for _ in range(4):
            self._marks.append(cuda.event())
            made.callback(self._marks[-1].close)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs by name.

        Raises:
            EdgeferError: the session was closed; a feed is missing, or of another type or shape; a batch outside the
                profile; the GPU failed.
        """
        with self._lock:
            self._check_open()
            batch = self._loaded.check_feeds(feeds)
            with self._cuda.current():
                return self._call(self._lane(("own", batch), batch), feeds)

    def _call(self, lane: Lane, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        cuda, stream, (begin, sent, computed, back) = self._cuda, self._stream, self._marks
        if cuda.graphs is not None and self.without_graphs is None and lane.graph is None and lane.runs:
            self._capture(lane, cuda.graphs)
        for spec in self.inputs:
            self._buffers[spec.name].fill(feeds[spec.name])
        cuda.record(begin, stream)
        for spec in self.inputs:
            self._buffers[spec.name].upload(lane.shapes[spec.name], stream)
        cuda.record(sent, stream)
        self._enqueue(lane, stream.number)
        cuda.record(computed, stream)
        for spec in self.outputs:
            self._buffers[spec.name].download(lane.shapes[spec.name], stream)
        cuda.record(back, stream)
        cuda.wait(stream)
        lane.stream = None
        self.timing = CallTiming(
            upload=cuda.milliseconds(begin, sent),
            compute=cuda.milliseconds(sent, computed),
            download=cuda.milliseconds(computed, back),
            graph=lane.graph is not None,
        )
        return {spec.name: self._buffers[spec.name].taken(lane.shapes[spec.name]) for spec in self.outputs}

    def run_device(self, pointers: Mapping[str, int], batch: int, stream: int) -> None:
        """Enqueue a call on memory and on a stream of the application's, and return before it is done.

        The application waits for its stream before it reads the outputs or frees anything. It works in the primary
        context, as torch and ``pycuda.autoprimaryctx`` do. While it captures a graph of its own on ``stream``, a batch
        size that ran before is captured with it; the session must then outlive that graph, and is not to be called
        with other memory or another batch size meanwhile.

        Args:
            pointers: for every input and output, the address of device memory with ``batch`` items in C order: torch's
                ``tensor.data_ptr()``, ``int()`` of a pycuda allocation.
            batch: items.
            stream: its handle: torch's ``stream.cuda_stream``, pycuda's ``stream.handle``. Where another stream may
                still run the engine, the GPU is waited for.

        Raises:
            EdgeferError: closed; a name or a batch size that the engine does not have; an address that is no device
                memory, is not a multiple of 256, or lies too close to the end of its allocation; another context.
        """
        with self._lock:
            self._check_open()
            self._loaded.check_batch(batch)
            self._loaded.check_names(pointers)
            if self._cuda.foreign():
                raise EdgeferError(
                    "the thread's CUDA context is a private one, and engines live in the primary context",
                    hint="`import pycuda.autoprimaryctx` instead of pycuda.autoinit; Device.retain_primary_context()",
                )
            with self._cuda.current():
                lane = self._lane(("application", batch), batch)
                extents = {name: self._cuda.extent(pointer) for name, pointer in pointers.items()}
                self._loaded.check_pointers(pointers, extents, lane.shapes)
                context = lane.context
                for name, pointer in pointers.items():
                    context.set_tensor_address(name, pointer)
                self._enqueue(lane, stream)

    def _lane(self, key: tuple[str, int] | None, batch: int) -> Lane:
        """The execution context for ``key``, set to ``batch`` and to the session's buffers."""
        lane = self._lanes.take(key)
        if lane is None:
            raise EdgeferError(
                f"{self.name} could not make an execution context: {self._loaded.reason()}",
                hint=MORE_MEMORY,
            )
        if lane.key is None:
            lane.shapes = self._loaded.set_batch(lane.context, batch)
            context = lane.context
            for name, buffer in self._buffers.items():
                context.set_tensor_address(name, buffer.address)
            lane.key = key
        return lane

    def _enqueue(self, lane: Lane, stream: int) -> None:
        if lane.stream not in (None, stream):
            with _ALONE:
                self._cuda.wait_for_all()  # the context's scratch memory is in use on the other stream
        lane.stream = stream
        context, graphs = lane.context, self._cuda.graphs
        if lane.graph is not None and graphs is not None:
            graphs.launch(lane.graph, self._stream)
        elif not context.execute_async_v3(stream):
            raise EdgeferError(
                f"{self.name} {self.version} could not run: {self._loaded.reason()}",
                hint="after a fault of the GPU start the process anew",
            )
        lane.runs += 1

    def _capture(self, lane: Lane, graphs: Graphs) -> None:
        """Record the call as a CUDA graph: once a batch size, after a first call, which TensorRT uses to set up."""
        context, handle = lane.context, self._stream.number
        try:
            with _ALONE:
                lane.graph = graphs.capture(self._stream, lambda: bool(context.execute_async_v3(handle)))
        except EdgeferError as fault:
            self.without_graphs = fault.message
            self._loaded.reason()  # it is not that of a later failure
            announce(f"note: calls of {self.name} are not replayed as a CUDA graph: {fault.message}")

    def _check_open(self) -> None:
        if self._made is None:
            raise EdgeferError(
                f"a session of {self.name} was used after it was closed",
                hint="load the engine again; close it only when every thread is done with it",
            )

    def close(self) -> None:
        """Wait for the GPU and free everything; it waits for a call of another thread too. A second call does nothing.

        Raises:
            EdgeferError: CUDA failed, which an earlier fault of the GPU may only now make known.
        """
        with self._lock:
            if self._made is None:
                return
            made, self._made = self._made, None
            with _ALONE, self._cuda.current(), made:
                self._cuda.wait_for_all()  # a stream of the application's may still run the engine

    def __enter__(self) -> TensorRtSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read(plan: Path) -> bytes:
    try:
        return plan.read_bytes()
    except OSError as cause:
        raise EdgeferError(f"the engine {plan} cannot be read: {cause.strerror}", hint="check the path") from cause
