#!/usr/bin/env python3
"""Our streaming calibrator beside onnxruntime's three: `python benchmarks/calibration.py`, about five minutes.

Same model (mini_xception), same faces, same tensors. What differs: one pass of ours gives the ranges of every method,
theirs of one; ours runs the network on one thread and writes down which faces it saw (their hashes), theirs runs it on
all cores, its default, without graph optimisations. Percentile's is symmetric and at 99.999, its default. Loading the
model counts for all; imports and the faces count for none. Memory is the peak above the level before the work.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import onnx
from calibration_plot import plot
from calibration_worker import OURS
from ending import conclude, destination, one_error
from sources import BESIDE, REPOSITORY

from edgefer.data import open_dataset, save_npz, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.errors import EdgeferError
from edgefer.graph.export import export
from edgefer.measure.environment import Usage, busy_before, describe_environment, others_since, too_busy
from edgefer.memory import available_memory
from edgefer.models.weights import shipped
from edgefer.progress import announce
from edgefer.quantize.observation import observed_tensors

RESULTS = REPOSITORY / "benchmarks" / "results" / "calibration.json"
MODEL = "mini_xception"
COUNTS = (100, 1000, 5000)
QUICK_COUNTS = (50, 100)
REFERENCE_FACES, MOST_FACES = 500, 5000
GROWTH, MOST_MB = 0.10, 400.0
CALIBRATORS = (OURS, "MinMax", "Entropy", "Percentile")
KEEPS_ALL = ("Entropy", "Percentile")
"""Of onnxruntime's, those that keep every activation until the last face."""
REPEATS, REPEAT_SECONDS = 3, 20.0
"""A measurement is repeated up to so often, while all of its repeats together took less than so many seconds."""
HEADROOM = 0.85


@click.command()
@click.option("--quick", is_flag=True, help="50 and 100 synthetic faces, to see that it works.")
@click.option("--data", metavar="DATA", help="A data set whose train faces calibrate; FER2013 beside the repository.")
@click.option("--output", type=click.Path(path_type=Path), help="JSON, with a PNG beside it.")
def main(quick: bool, data: str | None, output: Path | None) -> None:
    """Compare calibrators in seconds and in peak memory."""
    with one_error():
        path = destination(RESULTS, output, part=quick)
        conclude(measure(quick, data), path, plot)


def measure(quick: bool, data: str | None) -> dict[str, Any]:
    """Everything, for JSON."""
    started = time.monotonic()
    busy = busy_before(0.2 if quick else 2.0)
    environment = describe_environment()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model.onnx"
        export(MODEL, model, random_weights=shipped(MODEL) is None)
        counts = QUICK_COUNTS if quick else COUNTS
        faces = _Faces(None if quick else data, not quick, max(counts), folder)
        each, largest = _kept_bytes(model)
        rows = []
        for count in sorted({*counts, *(() if quick else (REFERENCE_FACES,))}):
            for calibrator in CALIBRATORS if count in counts else (OURS,):
                needs = count * (each + 3 * largest) if calibrator in KEEPS_ALL else 0
                rows.append(_row(calibrator, count, needs, model, faces.first(count), folder, 1 if quick else REPEATS))
    busy += [reason for row in rows if (reason := row.pop("busy", None))]
    return {
        "benchmark": "calibration",
        "quick": quick,
        "quiet": not busy,
        "busy": busy,
        "seconds": round(time.monotonic() - started),
        "environment": environment,
        "model": MODEL,
        "faces": faces.called,
        "kept_bytes_a_face": each,
        "rows": rows,
        "demands": _demands(rows),
    }


class _Faces:
    """The same faces for all: the first ones of a stratified draw, in files that each worker reads."""

    def __init__(self, data: str | None, real: bool, most: int, folder: Path) -> None:
        self._folder = folder
        path = data if data is not None else str(BESIDE / "train.npz")
        if data is not None or (real and Path(path).is_file()):
            dataset = open_dataset(path)
            train = dataset.split("train") if dataset.picked is None else dataset
            chosen = train.stratified(min(most, len(train)), seed=0)
            self._images = np.concatenate([images for images, _ in chosen.batches(256)])
            self._labels, self.called = chosen.labels, f"{Path(path).name if data else 'FER2013'}, train"
        else:
            self._images, self._labels = synthetic_faces(most, seed=0)
            self.called = "drawn"
        if len(self._images) < most:
            raise EdgeferError(f"{path} has {len(self._images)} training faces, {most} are needed", hint="more data")

    def first(self, count: int) -> Path:
        path = self._folder / f"faces-{count}.npz"
        if not path.exists():
            save_npz(path, self._images[:count], self._labels[:count], FER2013)
        return path


def _row(
    calibrator: str, count: int, needs: int, model: Path, faces: Path, folder: Path, repeats: int = REPEATS
) -> dict[str, Any]:
    """Measure, unless the memory that it is known to need is not there."""
    row: dict[str, Any] = {"calibrator": calibrator, "faces": count}
    free = available_memory()
    if needs > HEADROOM * free:
        reason = f"keeps every activation: {needs / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
        announce(f"{calibrator}, {count:,} faces: left out: {reason}")
        return {**row, "skipped": reason}
    taken: list[dict[str, Any]] = []
    start = Usage.now()
    while len(taken) < repeats and sum(one["seconds"] for one in taken) < REPEAT_SECONDS:
        taken.append(_measured(calibrator, model, faces, folder / "result.json"))
    others = others_since(start)
    row.update(
        seconds=median(one["seconds"] for one in taken),
        peak_bytes=median(one["peak_bytes"] for one in taken),
        peak_bytes_range=[pick(one["peak_bytes"] for one in taken) for pick in (min, max)],
        level_bytes=taken[-1]["level_bytes"],
        tensors=taken[-1]["tensors"],
        repeats=len(taken),
    )
    if others is not None and too_busy(others):
        row["busy"] = f"{calibrator}, {count:,} faces: other processes used {others:.2f} cores"
    announce(f"{calibrator}, {count:,} faces: {row['seconds']:.1f} s, {row['peak_bytes'] / 1e6:,.0f} MB")
    return row


def _measured(calibrator: str, model: Path, faces: Path, output: Path) -> dict[str, Any]:
    worker = Path(__file__).with_name("calibration_worker.py")
    output.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, str(worker), calibrator, str(model), str(faces), str(output)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode or not output.is_file():
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise EdgeferError(f"{calibrator} failed with exit code {done.returncode}: {lines[-1]}")
    result: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return result


def _kept_bytes(path: Path) -> tuple[int, int]:
    """Bytes a face of all observed tensors together, and of the largest (which the collectors copy three times)."""
    model = onnx.load(path)
    inferred = onnx.shape_inference.infer_shapes(model)
    shapes = {value.name: value.type.tensor_type.shape for value in inferred.graph.value_info}
    sizes = [4 * int(np.prod([d.dim_value for d in shapes[name].dim[1:]])) for name in observed_tensors(model)]
    return sum(sizes), max(sizes)


def _demands(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Memory does not grow with the faces, and is little."""
    ours = {row["faces"]: row for row in rows if row["calibrator"] == OURS}
    if REFERENCE_FACES not in ours or MOST_FACES not in ours:
        return []
    few, many = (ours[count]["peak_bytes"] / 1e6 for count in (REFERENCE_FACES, MOST_FACES))
    whole = many + ours[MOST_FACES]["level_bytes"] / 1e6
    return [
        {
            "demand": f"memory at {MOST_FACES:,} faces is at most {GROWTH:.0%} above that at {REFERENCE_FACES}",
            "measured": f"{many:.0f} MB and {few:.0f} MB, {many / few - 1:+.1%}",
            "passed": bool(many / few - 1 <= GROWTH),
        },
        {
            "demand": f"memory at {MOST_FACES:,} faces is under {MOST_MB:.0f} MB",
            "measured": f"{many:.0f} MB; {whole:.0f} MB with Python, its imports and the faces",
            "passed": bool(whole < MOST_MB),
        },
    ]


if __name__ == "__main__":
    main()
