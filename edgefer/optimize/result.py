"""What a build gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgefer.engines.tensorrt.inspect import Audit
from edgefer.manifest import Manifest
from edgefer.optimize.choose import Figures


@dataclass(frozen=True)
class BuildResult:
    """The file that was written, and what there is to say about it.

    Attributes:
        path: of the engine, or of the ONNX file with ``onnx_only``.
        manifest: as written beside it; None with ``onnx_only``.
        reason: why it is this one, or what to type next; ``""`` where there is nothing to say.
        audit: what TensorRT made of each layer.
        candidates: what was measured of each, where one was chosen.
    """

    path: Path
    manifest: Manifest | None
    reason: str = ""
    audit: Audit | None = None
    candidates: tuple[Figures, ...] = ()

    def summary(self) -> str:
        """A few lines for a person."""
        size = f"{self.path.stat().st_size / 1e6:.2f} MB"
        if self.manifest is None:
            line = f"{self.path}: ONNX for the target, {size}, no engine"
        else:
            got = self.manifest.precision
            line = f"{self.path}: {got.got.upper()} for {self.manifest.runtime}, {size}"
            if got.layers:
                integer = sum(layer.got == "int8" for layer in got.layers)
                line += f", {integer} of {len(got.layers)} layers in INT8"
        return line + (f"\n{self.reason}" if self.reason else "")
