"""edgefer: facial-expression networks from PyTorch to engines on the edge, with proof of what that cost.

The road, each step of which is a command, too::

    edgefer.export("lenet7", "model.onnx")  # the preprocessing goes into the file
    calib, test = (edgefer.open_dataset(f"faces.npz:{split}") for split in ("calib", "test"))
    settings = edgefer.Quantisation(calib, faces=70)
    edgefer.build_engine("model.onnx", "int8.onnx", precision="int8", quantisation=settings)
    engine = edgefer.load_engine("int8.onnx")
    probabilities = engine.probabilities(test.images(range(8)))  # uint8 N×48×48×1
    report = edgefer.benchmark("int8.onnx", test, baseline="lenet7")  # what INT8 cost, and what it gained
    people = edgefer.predict("people.png", "int8.onnx")  # the faces in a picture

Functions are imported on first use, so that ``import edgefer`` stays light.
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


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name in ("faces", "models"):
        return importlib.import_module(f"edgefer.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'edgefer' has no attribute {name!r}")
