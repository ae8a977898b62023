#!/usr/bin/env python3
"""One task in a process of its own: `scale_worker.py evaluate|calibrate MODEL FACES.npz COUNT OUTPUT.json`.

The level of memory is taken after the imports, the model and a first small run; the peak is watched from outside.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgefer.data import FaceSet, open_dataset

WARM = 256
"""Faces of the first small run: libraries, arenas and buffers are then in memory."""


def main() -> None:
    """Do it, and write seconds; a file beside the output says when the level may be taken."""
    task, model, path, count, output = sys.argv[1:]
    faces = open_dataset(path).split("train")
    work = {"evaluate": _evaluate, "calibrate": _calibrate}[task](model)
    work(faces.subset(np.arange(WARM)))
    Path(output).with_suffix(".ready").touch()
    time.sleep(0.5)  # the level is read meanwhile
    start = time.perf_counter()
    work(faces.subset(np.arange(int(count))))
    result = {"seconds": time.perf_counter() - start}
    Path(output).write_text(json.dumps(result), encoding="utf-8")


def _evaluate(model: str) -> Callable[[FaceSet], object]:
    from edgefer.engines.load import load_engine
    from edgefer.measure.evaluate import evaluate

    engine = load_engine(model)
    return lambda faces: evaluate(engine, faces).top1


def _calibrate(model: str) -> Callable[[FaceSet], object]:
    from edgefer.graph.onnx_file import load_model
    from edgefer.optimize.calibrate import calibrate
    from edgefer.optimize.settings import Recipe

    proto, contract = load_model(model)
    return lambda faces: calibrate(proto, contract, faces, Recipe(len(faces), 0, "percentile"))


if __name__ == "__main__":
    main()
