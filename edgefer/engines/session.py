"""What every runtime looks like from outside: named tensors in, named tensors out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: its name, NumPy dtype name (``"uint8"``) and shape, None where a size is free."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"'{self.name}' {self.dtype} {'×'.join('N' if size is None else str(size) for size in self.shape)}"


class Session(Protocol):
    """A loaded network in one runtime. It knows nothing of faces; :class:`~edgefer.engines.classifier.Classifier` does.

    Attributes:
        name: the runtime, e.g. ``"onnxruntime"``; the key of golden tolerances and of the manifest's ``runtime``.
        version: of the runtime.
        inputs: in the network's order.
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


@runtime_checkable
class Profiled(Session, Protocol):
    """A session that takes batches of ``least`` to ``most`` faces only, as TensorRT's optimisation profiles do."""

    least: int
    most: int
