"""What every runtime looks like from outside: named tensors in, named tensors out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: its name, NumPy dtype name (``"uint8"``) and shape, None where a size is free.

    ``batches`` are the least and the greatest batch size that the runtime takes where it is free; None: any.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    batches: tuple[int, int] | None = None

    @property
    def limits(self) -> tuple[int, int | None]:
        """The least and the greatest batch size; the latter is None where there is none."""
        fixed = self.shape[0]
        return (fixed, fixed) if fixed is not None else self.batches or (1, None)

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
