"""A TensorRT engine as a session: named tensors, buffers made once, one stream in the primary CUDA context."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgefer.engines.session import TensorSpec
from edgefer.engines.tensorrt.binding import import_tensorrt, log_of, logger_of
from edgefer.engines.tensorrt.buffers import Buffer, Stream
from edgefer.engines.tensorrt.driver import probe
from edgefer.errors import EdgeferError

_DTYPES: Final = {
    "UINT8": "uint8",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "HALF": "float16",
    "FLOAT": "float32",
    "BOOL": "bool",
}


class TensorRtSession:
    """A :class:`~edgefer.engines.session.Session` over a serialised engine.

    Args:
        plan: the engine's file, or its bytes.
        rtx: whether TensorRT-RTX made it.

    Raises:
        EdgeferError: no driver; TensorRT or cuda-bindings is not installed; the engine is another version's or GPU's.
    """

    def __init__(self, plan: str | os.PathLike[str] | bytes, *, rtx: bool = False) -> None:
        self.name = "tensorrt-rtx" if rtx else "tensorrt"
        self._engine: Any = None
        self._context: Any = None
        self._buffers: dict[str, Buffer] = {}
        self._stream: Stream | None = None
        probe()  # first: without a driver, the calls below end the process
        trt, target = import_tensorrt(rtx)
        self.version = target.name
        content = plan if isinstance(plan, bytes) else Path(plan).read_bytes()
        log = log_of(rtx)
        log.clear()
        self._runtime = runtime = trt.Runtime(logger_of(rtx))
        self._engine = engine = runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise EdgeferError(
                f"{target.title} cannot load the engine: {log.reason()}",
                hint="an engine is good for the TensorRT and the GPU that built it: build it again here",
            )
        specs: dict[bool, list[TensorSpec]] = {True: [], False: []}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            reads = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            shape = tuple(None if size < 0 else int(size) for size in engine.get_tensor_shape(name))
            dtype = engine.get_tensor_dtype(name)
            specs[reads].append(TensorSpec(name, _DTYPES.get(dtype.name, dtype.name), shape))
        self.inputs, self.outputs = tuple(specs[True]), tuple(specs[False])
        self.least, self.most = self._profile()
        try:
            self._allocate()
        except EdgeferError:
            self.close()
            raise

    def _profile(self) -> tuple[int, int]:
        """The batch sizes that the engine takes, from the profile of its first input."""
        first, engine = self.inputs[0], self._engine
        if first.shape[0] is not None:
            return first.shape[0], first.shape[0]
        least, _, most = engine.get_tensor_profile_shape(first.name, 0)
        return int(least[0]), int(most[0])

    def _allocate(self) -> None:
        engine = self._engine
        self._context = context = engine.create_execution_context()
        if context is None:
            raise EdgeferError(
                f"{self.name} could not make an execution context: {log_of(self.name != 'tensorrt').reason()}",
                hint="it needs more GPU memory: stop what else uses it, or build with a smaller --max-batch",
            )
        self._stream = Stream()
        for spec in (*self.inputs, *self.outputs):
            shape = tuple(self.most if size is None else size for size in spec.shape)
            self._buffers[spec.name] = buffer = Buffer(shape, spec.dtype)
            context.set_tensor_address(spec.name, buffer.device)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs by name.

        Raises:
            EdgeferError: the session was closed; a batch outside the profile; the GPU failed.
        """
        context, stream = self._context, self._stream
        if context is None or stream is None:
            raise EdgeferError("a TensorRT session was used after it was closed", hint="load the engine again")
        batch = len(feeds[self.inputs[0].name])
        self._check_batch(batch)
        for spec in self.inputs:
            value = np.ascontiguousarray(feeds[spec.name], dtype=spec.dtype)
            if not context.set_input_shape(spec.name, value.shape):
                raise EdgeferError(f"the engine takes {spec}, not {value.dtype} {value.shape}")
            self._buffers[spec.name].upload(value, stream)
        if not context.execute_async_v3(int(stream.handle)):
            raise EdgeferError(f"{self.name} {self.version} could not run: {log_of(self.name != 'tensorrt').reason()}")
        return {
            spec.name: self._buffers[spec.name].download((batch, *(size or 1 for size in spec.shape[1:])), stream)
            for spec in self.outputs
        }

    def _check_batch(self, batch: int) -> None:
        if self.least <= batch <= self.most:
            return
        built = str(self.most) if self.least == self.most else f"{self.least}…{self.most}"
        raise EdgeferError(
            f"a batch of {batch} is outside the engine's profile, {built}",
            hint=f"feed {self.most} at a time, or build it again with --max-batch {max(batch, self.most)}"
            + ("" if batch >= self.least else f" --min-batch {batch}"),
        )

    def close(self) -> None:
        """Free everything that it holds on the GPU. A second call does nothing."""
        for buffer in self._buffers.values():
            buffer.close()
        self._buffers.clear()
        if self._stream is not None:
            self._stream.close()
        self._stream = self._context = self._engine = self._runtime = None
