"""The interface of every runtime: named tensors in, named tensors out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from edgefer.errors import EdgeferError
from edgefer.runtimes import resolve, runtime_named

ModelSource = str | os.PathLike[str] | bytes
"""A file, or a serialised model."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: its name, NumPy dtype name (``"uint8"``) and shape, None where a size is free.

    ``batches`` are the minimum and maximum batch size that the runtime takes where it is free; None: any.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    batches: tuple[int, int] | None = None

    @property
    def limits(self) -> tuple[int, int | None]:
        """The minimum and maximum batch size; the latter is None where there is none."""
        fixed = self.shape[0]
        return (fixed, fixed) if fixed is not None else self.batches or (1, None)

    def __str__(self) -> str:
        return f"'{self.name}' {self.dtype} {'×'.join('N' if size is None else str(size) for size in self.shape)}"


class Session(Protocol):
    """A loaded network in one runtime. It knows nothing of faces; :class:`~edgefer.engines.classifier.Classifier` does.

    Attributes:
        name: the runtime, as :mod:`edgefer.runtimes` calls it, and manifests and golden tolerances with it.
        version: version of the runtime.
        inputs: the inputs in the network's order.
        outputs: likewise.
    """

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs by name. The caller owns what is returned."""

    def close(self) -> None:
        """Free what the runtime holds. A second call does nothing."""


@dataclass(frozen=True)
class CallTiming:
    """Durations of one call on the GPU, in ms between its events; ``graph``: whether a captured graph was replayed."""

    upload: float
    compute: float
    download: float
    graph: bool


@runtime_checkable
class TimedSession(Session, Protocol):
    """A session that may run on a GPU, and then tells what its last call took there.

    Attributes:
        gpu: CUDA's number of the GPU; None where it runs on the CPU.
        timing: durations of the last call; None before the first, and on the CPU.
    """

    gpu: int | None

    @property
    def timing(self) -> CallTiming | None:
        """Durations of the last call; None before the first."""


def open_session(runtime: str, model: ModelSource, threads: int = 1, precision: str = "fp32") -> Session:
    """Open ``model`` in ``runtime`` with ``threads``; ``precision`` as manifests say it, e.g. ``"int8+bf16"``.

    Raises:
        EdgeferError: the runtime is unknown, not installed, or refuses the model.
    """
    row = runtime_named(runtime)
    if not row.opener:
        raise EdgeferError(f"{row.title} opens no engines", hint="give an engine that `edgefer build-engine` wrote")
    session: Session = resolve(row.opener)(model, threads, precision)
    return session
