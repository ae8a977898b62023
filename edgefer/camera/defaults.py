"""The engine that is used when none is named: the shipped mini_xception, made once and kept."""

from __future__ import annotations

import os

from edgefer.atomic import sha256_file
from edgefer.camera.download import cache_folder
from edgefer.engines.classifier import Classifier
from edgefer.engines.load import load_engine
from edgefer.errors import EdgeferError, require

NETWORK = "mini_xception"


def open_engine(path: str | os.PathLike[str] | None, threads: int = 1) -> Classifier:
    """The engine at ``path``; the shipped network as an FP32 engine if None.

    The latter is exported on first use, which needs torch, and kept in the user's cache under its weights' hash.

    Raises:
        EdgeferError: whatever :func:`edgefer.load_engine` refuses; or there is no torch to make the default with.
    """
    if path is not None:
        return load_engine(path, threads)
    from edgefer.models.weights import shipped

    weights = shipped(NETWORK)
    if weights is None:
        raise EdgeferError(f"this edgefer was built without the weights of {NETWORK}", hint="--engine x.onnx")
    engine = cache_folder() / f"{NETWORK}-{sha256_file(weights)[:12]}.onnx"
    if not engine.is_file():
        require("torch", "export", f"making an engine of the shipped {NETWORK} (or pass --engine x.onnx)")
        from edgefer.graph.exporting import export

        export(NETWORK, engine)
    return load_engine(engine, threads)
