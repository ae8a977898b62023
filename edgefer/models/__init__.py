"""The network zoo. Importing this package does not import torch; :func:`create` does."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from edgefer.errors import EdgeferError, require
from edgefer.models.registry import architecture, default_contract, names

if TYPE_CHECKING:
    from torch import nn

__all__ = ["DEFAULT", "architecture", "create", "default_contract", "default_engine", "names"]

DEFAULT = "cliquenet_ferplus"
"""The shipped weights of which a ready-to-run engine ships too: what `predict`, `camera` and `web` take by default."""


def default_engine() -> Path:
    """The FP32 engine of :data:`DEFAULT`, with its manifest beside it; it runs in ONNX Runtime and OpenVINO."""
    return Path(__file__).parent / "weights" / f"{DEFAULT}.onnx"


def create(name: str, num_classes: int = 7) -> nn.Module:
    """A network with fresh weights: logits, float32 N×classes, from normalised float32 N×C×H×W.

    Raises:
        EdgeferError: no network has that name, fewer than two classes, or torch is not installed.
    """
    entry = architecture(name)
    if num_classes < 2:
        raise EdgeferError(
            f"{name} with {num_classes} class{'' if num_classes == 1 else 'es'} classifies nothing",
            hint="pass num_classes=7 (FER2013) or 8 (FER+): at least 2",
        )
    require("torch", "export", "creating a network")
    module, _, factory = f"edgefer.models.{entry.factory}".partition(":")
    network: nn.Module = getattr(importlib.import_module(module), factory)(num_classes)
    return network
