"""Training on the ``fit`` faces of a data set. Importing this package imports torch, if it is there."""

from __future__ import annotations

from edgefer.errors import require
from edgefer.training.config import TrainConfig

for package in ("torch", "safetensors"):
    require(package, "export", "training")

from edgefer.training.beginning import OwnNetwork  # noqa: E402
from edgefer.training.loop import TrainResult, train  # noqa: E402

__all__ = ["OwnNetwork", "TrainConfig", "TrainResult", "train"]
