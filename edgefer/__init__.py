"""edgefer: facial-expression networks from PyTorch to engines on the edge, with proof of what that cost.

The functions below are what the commands call. They are imported on first use, so that ``import edgefer`` stays light.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from edgefer.errors import EdgeferError

if TYPE_CHECKING:
    from edgefer import faces as faces
    from edgefer import models as models
    from edgefer.camera.predict import predict as predict
    from edgefer.data import ReadSettings as ReadSettings
    from edgefer.data import open_dataset as open_dataset
    from edgefer.engines.load import load_engine as load_engine
    from edgefer.graph.adopt import adopt as adopt
    from edgefer.graph.export import export as export
    from edgefer.optimize.build import build_engine as build_engine
    from edgefer.optimize.settings import BuildTarget as BuildTarget
    from edgefer.optimize.settings import Quantisation as Quantisation
    from edgefer.report.bench import benchmark as benchmark
    from edgefer.report.timing import BenchSettings as BenchSettings
    from edgefer.training import train as train

__version__ = "0.1.0"

# From 1.29 on, ONNX Runtime reports use to its makers unless this is set before it starts, and keeps an identifier of
# the machine in the user's cache (its Privacy.md). Nothing here reports; who wants that sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "ReadSettings": "edgefer.data",
    "open_dataset": "edgefer.data",
    "train": "edgefer.training",
    "export": "edgefer.graph.export",
    "adopt": "edgefer.graph.adopt",
    "build_engine": "edgefer.optimize.build",
    "BuildTarget": "edgefer.optimize.settings",
    "Quantisation": "edgefer.optimize.settings",
    "load_engine": "edgefer.engines.load",
    "predict": "edgefer.camera.predict",
    "benchmark": "edgefer.report.bench",
    "BenchSettings": "edgefer.report.timing",
}

__all__ = [
    "BenchSettings",
    "BuildTarget",
    "EdgeferError",
    "Quantisation",
    "ReadSettings",
    "__version__",
    "adopt",
    "benchmark",
    "build_engine",
    "export",
    "faces",
    "load_engine",
    "models",
    "open_dataset",
    "predict",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in ("faces", "models"):
        return importlib.import_module(f"edgefer.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'edgefer' has no attribute {name!r}")
