"""A TensorRT engine as a session: named tensors, buffers made once, one stream in the primary CUDA context.

An engine is deserialised, has one execution context for each batch size of late with the CUDA graph that was captured
of it, and is opened only where its manifest fits: version and GPU are checked before TensorRT sees a byte of it.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgefer.engines.session import CallTiming, ModelSource, TensorSpec
from edgefer.engines.tensorrt.compat import import_tensorrt, loads, log_of, make_runtime
from edgefer.engines.tensorrt.cuda import Buffer, Device, Graphs, Owned, find_gpu, open_cuda
from edgefer.errors import EdgeferError
from edgefer.manifest import Manifest, read_manifest
from edgefer.progress import announce
from edgefer.runtimes import TENSORRT, TENSORRT_RTX

ALIGNMENT: Final = 256
"""Bytes that a tensor's address is a multiple of (NvInferRuntime.h, setTensorAddress)."""

MORE_MEMORY: Final = "it needs more GPU memory: stop what else uses it, or build with a smaller --max-batch"

_DTYPES: Final = {
    "UINT8": "uint8",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "HALF": "float16",
    "FLOAT": "float32",
    "BOOL": "bool",
}

MAX_CONTEXTS: Final = 4
"""Batch sizes that keep an execution context and a CUDA graph each, where the version can share a profile."""

_ALONE: Final = threading.RLock()
"""Held while an engine is loaded, captured or freed: TensorRT's log is one a process, and waiting for the whole GPU
fails while another thread captures."""


class LoadedEngine:
    """A deserialised engine. It is made, used and let go inside ``with cuda.current():``.

    Args:
        plan: the engine's bytes.
        rtx: whether TensorRT-RTX made it.
        dla_core: the DLA core that it runs on; None where it was not built for one.

    Attributes:
        target: the TensorRT that is here.
        inputs, outputs: the tensors in the engine's order.
        min_batch, max_batch: the batch sizes that it takes.

    Raises:
        EdgeferError: the engine is cut short, or another version's or GPU's; there is no such DLA core.
    """

    def __init__(self, plan: bytes, *, rtx: bool, dla_core: int | None = None) -> None:
        self._trt, self.target = import_tensorrt(rtx)
        trt, self._log = self._trt, log_of(rtx)
        self._log.clear()
        # the engine keeps a pointer to the runtime
        self._runtime = runtime = make_runtime(trt, self.target, dla_core)
        self._engine = engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            reason = self.reason()
            raise EdgeferError(
                f"{self.target.title} cannot load the engine: {reason}",
                hint=MORE_MEMORY
                if "memory" in reason.lower()
                else "an engine is good for the TensorRT and the GPU that built it: build it again here",
            )
        specs: dict[bool, list[TensorSpec]] = {True: [], False: []}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            reads = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            shape = tuple(None if size < 0 else int(size) for size in engine.get_tensor_shape(name))
            specs[reads].append(TensorSpec(name, _dtype(engine.get_tensor_dtype(name).name, name), shape))
        self.min_batch, self.max_batch = self._profile(specs[True][0])
        self.inputs = tuple(replace(spec, batches=(self.min_batch, self.max_batch)) for spec in specs[True])
        self.outputs = tuple(specs[False])

    def reason(self) -> str:
        """The errors in TensorRT's log since the last call of this."""
        reason = self._log.reason()
        self._log.clear()
        return reason

    def _profile(self, first: TensorSpec) -> tuple[int, int]:
        engine = self._engine
        if first.shape[0] is not None:
            return first.shape[0], first.shape[0]
        smallest, _, largest = engine.get_tensor_profile_shape(first.name, 0)
        return int(smallest[0]), int(largest[0])

    def make_context(self) -> Any:
        """An execution context, or None where memory has no room for its scratch."""
        trt, engine, has = self._trt, self._engine, self.target.has
        if has.own_graphs:
            settings = engine.create_runtime_config()
            settings.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            return engine.create_execution_context(settings)
        return engine.create_execution_context()

    def set_batch(self, context: Any, batch: int) -> dict[str, tuple[int, ...]]:
        """Set ``context`` to ``batch``; tensor → shape.

        Raises:
            EdgeferError: TensorRT refuses it.
        """
        for spec in self.inputs:
            if not context.set_input_shape(spec.name, sized(spec, batch)):
                raise EdgeferError(f"{self.target.title} refuses a batch of {batch}: {self.reason()}")
        return {
            spec.name: tuple(map(int, context.get_tensor_shape(spec.name))) for spec in (*self.inputs, *self.outputs)
        }

    def close(self) -> None:
        """Let go of it, after its contexts."""
        self._engine = self._runtime = None

    def check_batch(self, batch: int) -> None:
        """Refuse a batch size that the engine was not built for.

        Raises:
            EdgeferError: with the option that builds it.
        """
        if self.min_batch <= batch <= self.max_batch:
            return
        built = str(self.max_batch) if self.min_batch == self.max_batch else f"{self.min_batch}…{self.max_batch}"
        raise EdgeferError(
            f"a batch of {batch} is outside the engine's profile, {built}",
            hint=f"feed {self.max_batch} at a time, or build it again with --max-batch {max(batch, self.max_batch)}"
            + ("" if batch >= self.min_batch else f" --min-batch {batch}"),
        )

    def check_feeds(self, feeds: Mapping[str, NDArray[Any]]) -> int:
        """The batch size of ``feeds``.

        Raises:
            EdgeferError: a name, type, shape or batch size that the engine does not have.
        """
        names = [spec.name for spec in self.inputs]
        if sorted(feeds) != sorted(names):
            raise EdgeferError(f"the engine takes {_listed(names)}, not {_listed(feeds)}")
        batch = len(feeds[names[0]])
        self.check_batch(batch)
        for spec in self.inputs:
            value = feeds[spec.name]
            if value.dtype.name != spec.dtype or value.shape != sized(spec, batch):
                raise EdgeferError(f"the engine takes {spec}, not {value.dtype} {value.shape}")
        return batch

    def check_pointers(
        self, pointers: Mapping[str, int], extents: Mapping[str, int], shapes: Mapping[str, Any]
    ) -> None:
        """Refuse device memory that the engine would read or write wrongly.

        Args:
            pointers: tensor → address.
            extents: tensor → bytes from there to the end of its allocation.
            shapes: tensor → shape.

        Raises:
            EdgeferError: an address that is no multiple of 256, or too little memory.
        """
        for spec in (*self.inputs, *self.outputs):
            pointer, found = pointers[spec.name], extents[spec.name]
            needed = math.prod(shapes[spec.name]) * np.dtype(spec.dtype).itemsize
            if pointer % ALIGNMENT:
                raise EdgeferError(
                    f"the address {pointer:#x} for '{spec.name}' is no multiple of {ALIGNMENT} bytes",
                    hint="give the beginning of an allocation: a slice of a tensor rarely begins at such an address",
                )
            if found < needed:
                raise EdgeferError(
                    f"at {pointer:#x} there are {found:,} bytes, and '{spec.name}' needs {needed:,} for this batch",
                    hint=f"allocate it for the whole batch: {spec}",
                )

    def check_names(self, pointers: Mapping[str, int]) -> None:
        """Refuse pointers that are not one for each tensor.

        Raises:
            EdgeferError: naming the tensors.
        """
        names = [spec.name for spec in (*self.inputs, *self.outputs)]
        if sorted(pointers) != sorted(names):
            raise EdgeferError(f"the engine's tensors are {_listed(names)}, not {_listed(pointers)}")


def sized(spec: TensorSpec, batch: int) -> tuple[int, ...]:
    """The shape of ``spec`` with ``batch`` where it is free."""
    return tuple(batch if size is None else size for size in spec.shape)


def _listed(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names) or "nothing"


def _dtype(name: str, tensor: str) -> str:
    if name in _DTYPES:
        return _DTYPES[name]
    raise EdgeferError(
        f"the engine's tensor '{tensor}' is {name}, which NumPy does not have",
        hint="`edgefer build-engine` makes engines from uint8 faces to float32 logits",
    )


@dataclass(eq=False)
class ExecutionContext:
    """An execution context that is set to one batch size.

    Attributes:
        context: TensorRT's.
        key: the shapes it is set to; None while it is not.
        shapes: tensor → shape, at that batch size.
        runs: times that it was enqueued since it was set.
        stream: the stream that may still be running it; None where nothing is.
        graph: the graph captured from it.
    """

    context: Any
    key: Hashable = None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    runs: int = 0
    stream: int | None = None
    graph: Owned | None = None

    def unset(self) -> None:
        """Forget what it is set to."""
        self.key, self.runs = None, 0
        if self.graph is not None:
            graph, self.graph = self.graph, None
            graph.close()


class ExecutionContexts:
    """Up to ``limit`` execution contexts of an engine.

    A captured graph holds shapes and addresses fast, and lives on state of its context that another shape changes:
    NVIDIA's developer guide ("CUDA Graphs") advises one context for each graph. So every batch size has its own, and
    where there are ``limit`` already, the one whose last use is longest ago is set anew.

    Args:
        make: makes an execution context; None where it cannot.
        limit: maximum number that the version allows at a time.
    """

    def __init__(self, make: Callable[[], Any], limit: int) -> None:
        self._make = make
        self._limit = limit
        self._all: list[ExecutionContext] = []

    def take(self, key: Hashable) -> ExecutionContext | None:
        """The one that is set to ``key``, or one that is to be set; None where not even one context can be made."""
        one = self._find(key) or self._find(None) or self._another()
        if one is None:
            return None
        if one in self._all:
            self._all.remove(one)
        if one.key != key:
            one.unset()
        self._all.append(one)
        return one

    def _find(self, key: Hashable) -> ExecutionContext | None:
        return next((one for one in self._all if one.key == key), None)

    def _another(self) -> ExecutionContext | None:
        """A new one, or the oldest where there are enough already or memory has no room for one more."""
        context = self._make() if len(self._all) < self._limit else None
        if context is not None:
            return ExecutionContext(context)
        if 0 < len(self._all) < self._limit:
            self._limit = len(self._all)  # so that it is not tried, and refused, at every change
            announce(
                f"note: GPU memory has no room for more execution contexts than {self._limit}: batch sizes take turns"
            )
        return self._all[0] if self._all else None

    def close(self) -> None:
        """Destroy the graphs, then the contexts."""
        for one in self._all:
            one.unset()
        self._all.clear()


class TensorRtSession:
    """A :class:`~edgefer.engines.session.Session` over a serialised engine; a context manager that frees what it took.

    Any thread may call it; calls come one after the other. Two sessions run side by side.

    Args:
        plan: the engine's file, or its bytes.
        rtx: whether TensorRT-RTX made it.
        dla_core: the DLA core that it runs on; None where it was not built for one.

    Attributes:
        min_batch, max_batch: the batch sizes that the engine takes.
        gpu: CUDA's number of the GPU: the first that CUDA_VISIBLE_DEVICES leaves.
        timing: timing of the last :meth:`run`; None before the first.
        without_graphs: why calls are not replayed as a CUDA graph; None where they are, or will be: the first call with
            a batch size is enqueued as it is, the second is captured.

    Raises:
        EdgeferError: no such file; no driver; TensorRT, or both of cuda-bindings and pycuda, are not installed; the
            engine is cut short, or another version's or GPU's; there is no such DLA core; memory ran out.
    """

    def __init__(self, plan: str | os.PathLike[str] | bytes, *, rtx: bool = False, dla_core: int | None = None) -> None:
        self.name = (TENSORRT_RTX if rtx else TENSORRT).name
        find_gpu()  # first: without a driver, the calls below end the process
        _, target = import_tensorrt(rtx)
        self.version = target.name
        self.gpu: int | None = 0
        self._timing: CallTiming | None = None
        self._last: bool | None = None  # whether the last call replayed a graph; None before the first
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
            self.min_batch, self.max_batch = loaded.min_batch, loaded.max_batch
            self._allocate(made, MAX_CONTEXTS if target.has.profile_sharing else 1)
            self._made = made.pop_all()

    def _allocate(self, made: ExitStack, contexts: int) -> None:
        """Everything that calls will need, at the largest batch size."""
        cuda = self._cuda
        self._contexts = ExecutionContexts(self._loaded.make_context, contexts)
        made.callback(self._contexts.close)
        self._buffers: dict[str, Buffer] = {}
        shapes = self._context_for(None, self.max_batch).shapes
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
                return self._call(self._context_for(("own", batch), batch), feeds)

    def _call(self, chosen: ExecutionContext, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        cuda, stream, graphs = self._cuda, self._stream, self._cuda.graphs
        if graphs is not None and self.without_graphs is None and chosen.graph is None and chosen.runs:
            self._capture(chosen, graphs)
        for spec in self.inputs:
            self._buffers[spec.name].fill(feeds[spec.name])
        self._take(chosen, stream.number)
        if chosen.graph is not None and graphs is not None:
            graphs.launch(chosen.graph, stream)
        elif not self._put(chosen, cuda.record):
            raise self._failed()
        chosen.runs += 1
        cuda.wait(stream)
        chosen.stream = None
        self._last, self._timing = chosen.graph is not None, None
        return {spec.name: self._buffers[spec.name].taken(chosen.shapes[spec.name]) for spec in self.outputs}

    def _put(self, chosen: ExecutionContext, record: Callable[[Owned, Owned], None]) -> bool:
        """Put copies in, kernels, copies out and the events between them on the stream; False where TensorRT fails."""
        stream, (begin, sent, computed, back), context = self._stream, self._marks, chosen.context
        record(begin, stream)
        for spec in self.inputs:
            self._buffers[spec.name].upload(chosen.shapes[spec.name], stream)
        record(sent, stream)
        if not context.execute_async_v3(stream.number):
            return False
        record(computed, stream)
        for spec in self.outputs:
            self._buffers[spec.name].download(chosen.shapes[spec.name], stream)
        record(back, stream)
        return True

    @property
    def timing(self) -> CallTiming | None:
        """Durations of the last :meth:`run`; the driver is asked for them only when somebody asks for this."""
        with self._lock:
            if self._timing is None and self._last is not None and self._made is not None:
                (begin, sent, computed, back), between = self._marks, self._cuda.milliseconds
                with self._cuda.current():
                    took = between(begin, sent), between(sent, computed), between(computed, back)
                self._timing = CallTiming(*took, graph=self._last)
            return self._timing

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
                chosen = self._context_for(("application", batch), batch)
                extents = {name: self._cuda.extent(pointer) for name, pointer in pointers.items()}
                self._loaded.check_pointers(pointers, extents, chosen.shapes)
                context = chosen.context
                for name, pointer in pointers.items():
                    context.set_tensor_address(name, pointer)
                self._take(chosen, stream)
                if not context.execute_async_v3(stream):
                    raise self._failed()
                chosen.runs += 1

    def _context_for(self, key: tuple[str, int] | None, batch: int) -> ExecutionContext:
        """The execution context for ``key``, set to ``batch`` and to the session's buffers."""
        chosen = self._contexts.take(key)
        if chosen is None:
            raise EdgeferError(
                f"{self.name} could not make an execution context: {self._loaded.reason()}",
                hint=MORE_MEMORY,
            )
        if chosen.key is None:
            chosen.shapes = self._loaded.set_batch(chosen.context, batch)
            context = chosen.context
            for name, buffer in self._buffers.items():
                context.set_tensor_address(name, buffer.address)
            chosen.key = key
        return chosen

    def _take(self, chosen: ExecutionContext, stream: int) -> None:
        """Let ``stream`` have the context, whose scratch memory serves one at a time."""
        if chosen.stream not in (None, stream):
            with _ALONE:
                self._cuda.wait_for_all()
        chosen.stream = stream

    def _failed(self) -> EdgeferError:
        return EdgeferError(
            f"{self.name} {self.version} could not run: {self._loaded.reason()}",
            hint="after a fault of the GPU start the process anew",
        )

    def _capture(self, chosen: ExecutionContext, graphs: Graphs) -> None:
        """Record the call as a CUDA graph: once per batch size, after a first call, which TensorRT uses to set up."""
        try:
            with _ALONE:
                chosen.graph = graphs.capture(self._stream, lambda: self._put(chosen, graphs.record_inside))
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


def open_model(engine: ModelSource, threads: int, precision: str) -> TensorRtSession:
    """A session over a serialised engine: its bytes, or its file with the manifest beside it.

    The manifest says whose engine it is and which DLA core it was built for; threads and precision are settled.

    Raises:
        EdgeferError: see :class:`~edgefer.engines.tensorrt.run.TensorRtSession`.
    """
    if isinstance(engine, bytes):
        return TensorRtSession(engine)
    manifest = read_manifest(engine)
    return TensorRtSession(engine, rtx=manifest.runtime == TENSORRT_RTX.name, dla_core=manifest.dla_core)


def check_built_for_here(file: Path, manifest: Manifest) -> None:
    """Refuse an engine before TensorRT sees a byte of it, unless it was built for what is here.

    Raises:
        EdgeferError: no driver; another version of TensorRT or another GPU than those it was built with.
    """
    device = find_gpu()
    _, here = import_tensorrt(manifest.runtime == TENSORRT_RTX.name)
    check_place(file, manifest, here.name, device)


def check_place(file: Path, manifest: Manifest, version: str, device: Device) -> None:
    """Refuse an engine of another TensorRT or another GPU than those that are here, unless it was built for them too.

    TensorRT-RTX engines run on any GPU from Ampere on: theirs is only announced.

    Raises:
        EdgeferError: names both.
    """
    flags = " ".join(f"--{part}" for part in manifest.precision.asked.split("+"))
    flags += " --calib DATA" if "int8" in flags else ""
    flags += "" if manifest.dla_core is None else f" --dla {manifest.dla_core} --gpu-fallback"
    again = f"build it again here: `edgefer build-engine model.onnx {flags} --target {manifest.target} -o {file.name}`"
    later = "version" in manifest.portable and loads(manifest.runtime_version, version)
    if manifest.runtime_version != version and not later:
        raise EdgeferError(
            f"{file} was built with {manifest.runtime} {manifest.runtime_version}, and {version} is installed here",
            hint=again,
        )
    if manifest.runtime == TENSORRT_RTX.name:
        announce(f"note: {file} was {manifest.note or 'built'}; this GPU is {device}")
    elif manifest.device != str(device) and not ("hardware" in manifest.portable and _from_ampere_on(device)):
        raise EdgeferError(f"{file} was built for {manifest.device}, and this GPU is {device}", hint=again)


def _from_ampere_on(device: Device) -> bool:
    """Whether hardware compatible engines run here (NvInfer.h, HardwareCompatibilityLevel::kAMPERE_PLUS): no Jetson."""
    return int(device.capability.removeprefix("SM")) >= 80 and not device.integrated
