#!/usr/bin/env python3
"""One calibration in a process of its own: `calibration_worker.py CALIBRATOR MODEL FACES.npz OUTPUT.json`."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

OURS = "edgefer"
FED = 50
"""Faces a call of onnxruntime's calibrators. One is usual; fifty are faster, and every count here is a multiple (with
a smaller last batch they stop: they stack all batches of a tensor into one array)."""

Work = Callable[[str, NDArray[np.uint8], Path], int]


def main() -> None:
    """Measure, and write seconds and bytes."""
    calibrator, model, faces, output = sys.argv[1:]
    work = _edgefer(faces) if calibrator == OURS else _onnxruntime(calibrator)
    images = np.load(faces)["images"]
    images.max()  # every page is here before the level is taken
    level = _forget_peak()
    start = time.perf_counter()
    tensors = work(model, images, Path(output).with_suffix(".augmented.onnx"))
    seconds = time.perf_counter() - start
    result = {
        "seconds": seconds,
        "peak_bytes": _peak() - level,
        "level_bytes": level,
        "tensors": tensors,
        "faces": len(images),
    }
    Path(output).write_text(json.dumps(result), encoding="utf-8")


def _edgefer(faces: str) -> Work:
    import onnxruntime  # noqa: F401 - imported before the level is taken, as for the others

    from edgefer.data import open_dataset
    from edgefer.graph.onnx_file import load_model
    from edgefer.optimize.calibrate import calibrate
    from edgefer.optimize.settings import Recipe
    from edgefer.quantize.ranges import threshold

    dataset = open_dataset(f"{faces}:train")
    dataset.images(np.arange(len(dataset))).max()

    def work(model: str, images: NDArray[np.uint8], scratch: Path) -> int:
        proto, contract = load_model(model)
        ranges, _ = calibrate(proto, contract, dataset, Recipe(len(dataset), 0, "percentile"))
        return len([threshold(h, "percentile", symmetric=False) for h in ranges.histograms.values()])

    return work


def _onnxruntime(name: str) -> Work:
    """The calibrator that create_calibrator makes, told to look at the tensors that edgefer looks at."""
    import onnx
    import onnxruntime  # noqa: F401 - imported before the level is taken
    from onnxruntime.quantization import calibrate

    from edgefer.quantize.observation import observed_tensors

    options: dict[str, Any] = {"Percentile": {"symmetric": True, "num_bins": 2048, "percentile": 99.999}}
    maker = {
        "MinMax": calibrate.MinMaxCalibrater,
        "Entropy": calibrate.EntropyCalibrater,
        "Percentile": calibrate.PercentileCalibrater,
    }[name]

    def work(model: str, images: NDArray[np.uint8], scratch: Path) -> int:
        wanted = set(observed_tensors(onnx.load(model)))
        made = maker(model, augmented_model_path=str(scratch), **options.get(name, {}))
        infos = made.select_tensors_to_calibrate(made.model)[1]
        made.select_tensors_to_calibrate = lambda _: (wanted, infos)
        made.augment_graph()
        made.create_inference_session()
        made.collect_data(_Reader(made.infer_session.get_inputs()[0].name, images))
        return len(made.compute_data().data)

    return work


class _Reader:
    """What onnxruntime calls a CalibrationDataReader."""

    def __init__(self, name: str, images: NDArray[np.uint8]) -> None:
        faces = images if images.ndim == 4 else images[..., None]
        self._batches = iter([{name: faces[i : i + FED]} for i in range(0, len(faces), FED)])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self._batches, None)


def _forget_peak() -> int:
    """Resident bytes now, from which on the peak counts.

    Linux keeps the peak of an address space as VmHWM and forgets it on request. getrusage's ru_maxrss cannot stand in
    for it: it survives fork and exec, so a process begins with the peak of the one that started it.
    """
    if not Path("/proc/self/clear_refs").exists():
        return _peak()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): reset the peak resident set size
    return _status("VmRSS")


def _peak() -> int:
    if Path("/proc/self/status").exists():
        return _status("VmHWM")
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    main()
