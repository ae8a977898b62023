"""Golden vectors as they travel in a manifest: faces, the answers to them, and how far others may be from these."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Golden:
    """Faces with the logits that the engine gave when it was built, and how far another run may be from them.

    Attributes:
        faces: uint8 N×H×W×C, synthetic, never a dataset's.
        logits: float32 N×classes.
        tolerance: runtime name → largest allowed ``max |logits − golden| / max |golden|``.
    """

    faces: NDArray[np.uint8]
    logits: NDArray[np.float32]
    tolerance: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; float32 survives the round trip exactly."""
        return {
            "shape": list(self.faces.shape),
            "faces": base64.b64encode(np.ascontiguousarray(self.faces).tobytes()).decode("ascii"),
            "logits": [[float(value) for value in row] for row in self.logits],
            "tolerance": dict(self.tolerance),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Golden:
        """Read what :meth:`to_dict` wrote."""
        pixels = np.frombuffer(base64.b64decode(content["faces"], validate=True), dtype=np.uint8)
        faces = pixels.reshape([int(size) for size in content["shape"]])
        logits = np.asarray(content["logits"], dtype=np.float32)
        if faces.ndim != 4 or logits.ndim != 2 or len(faces) != len(logits) or not len(faces):
            raise ValueError(f"golden faces of shape {faces.shape} with logits of shape {logits.shape}")
        tolerance = {str(k): float(v) for k, v in content["tolerance"].items()}
        if not np.isfinite(logits).all() or not all(0 < value < 1 for value in tolerance.values()):
            raise ValueError("golden logits are finite and tolerances between 0 and 1")
        return cls(faces, logits, tolerance)
