"""From an engine back to the weights: hashes out of manifests and contracts, and the files that have them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgefer.atomic import sha256_file
from edgefer.contract import Contract
from edgefer.manifest import Manifest
from edgefer.models.weights import SHIPPED

_MODELS: Final = (".onnx",)
_WEIGHTS: Final = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class Ancestor:
    """A file that another one was made from: its SHA-256, ``""`` where unknown, and where it was found, if anywhere."""

    sha256: str
    file: Path | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"sha256": self.sha256 or None, "file": None if self.file is None else str(self.file)}

    def __str__(self) -> str:
        if not self.sha256:
            return "unknown"
        return f"{self.file or 'not found here'} (sha256 {self.sha256[:12]}…)"


@dataclass(frozen=True)
class Lineage:
    """What a file was made from.

    Attributes:
        architecture: of the network.
        model: the exported model.onnx; unknown where the file is one itself.
        weights: the weights that were exported.
        stated: what the contract says besides, e.g. ``trained_on``; text to text.
    """

    architecture: str
    model: Ancestor
    weights: Ancestor
    stated: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "architecture": self.architecture,
            "model": self.model.to_dict(),
            "weights": self.weights.to_dict(),
            "stated": self.stated,
        }


def lineage_of(file: Path, manifest: Manifest) -> Lineage:
    """The lineage of an engine; its ancestors are looked for beside it, weights also among those that ship."""
    return trace(file, manifest.contract, manifest.model_sha256, manifest.weights_sha256)


def trace(file: Path, contract: Contract, model_sha256: str, weights_sha256: str = "") -> Lineage:
    """The lineage of ``file``, of whose ancestors these hashes are known."""
    weights = weights_sha256 or contract.lineage.get("weights_sha256", "")
    beside = [path for path in sorted(file.parent.iterdir()) if path.is_file()]
    shipped = sorted(SHIPPED.iterdir())
    return Lineage(
        contract.architecture,
        Ancestor(model_sha256, _with_hash(model_sha256, beside, _MODELS)),
        Ancestor(weights, _with_hash(weights, [*beside, *shipped], _WEIGHTS)),
        {key: value for key, value in contract.lineage.items() if key != "weights_sha256"},
    )


def _with_hash(sha256: str, files: Iterable[Path], suffixes: tuple[str, ...]) -> Path | None:
    if not sha256:
        return None
    return next((path for path in files if path.suffix in suffixes and sha256_file(path) == sha256), None)
