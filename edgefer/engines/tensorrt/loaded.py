"""An engine in TensorRT: its tensors, the batch sizes that it takes, and whether what it is given fits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgefer.engines.session import TensorSpec
from edgefer.engines.tensorrt.binding import import_tensorrt, log_of, make_runtime
from edgefer.errors import EdgeferError

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


class LoadedEngine:
    """A deserialised engine. It is made, used and let go inside ``with cuda.current():``.

    Args:
        plan: the engine's bytes.
        rtx: whether TensorRT-RTX made it.
        dla_core: the DLA core that it runs on; None where it was not built for one.

    Attributes:
        target: the TensorRT that is here.
        inputs, outputs: in the engine's order.
        least, most: the batch sizes that it takes.

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
        self.least, self.most = self._profile(specs[True][0])
        self.inputs = tuple(replace(spec, batches=(self.least, self.most)) for spec in specs[True])
        self.outputs = tuple(specs[False])

    def reason(self) -> str:
        """What TensorRT's log says went wrong since it was asked last."""
        reason = self._log.reason()
        self._log.clear()
        return reason

    def _profile(self, first: TensorSpec) -> tuple[int, int]:
        engine = self._engine
        if first.shape[0] is not None:
            return first.shape[0], first.shape[0]
        least, _, most = engine.get_tensor_profile_shape(first.name, 0)
        return int(least[0]), int(most[0])

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
        if self.least <= batch <= self.most:
            return
        built = str(self.most) if self.least == self.most else f"{self.least}…{self.most}"
        raise EdgeferError(
            f"a batch of {batch} is outside the engine's profile, {built}",
            hint=f"feed {self.most} at a time, or build it again with --max-batch {max(batch, self.most)}"
            + ("" if batch >= self.least else f" --min-batch {batch}"),
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
