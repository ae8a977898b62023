#!/usr/bin/env python3
"""How cost grows with the number of faces: `python benchmarks/scale.py`, from a thousand to a million synthetic ones.

Evaluation (batch 64, one process) and calibration (all methods in one pass), each in a process of its own. Time should
be linear. Memory should be flat but for what is kept of each face: labels, row numbers, groups and logits for an
evaluation, and hashes, which the manifest lists, for a calibration. Counted is anonymous memory above the level after a
first small run: pages of mapped files are the system's cache, which it takes back when it needs them.

What grows with the faces does not depend on the network, so a small one is taken (lenet; mini_xception takes four times
as long). A million faces are 2.3 GB on disk; 50,000 are made, and all others are those again, flipped, darker or
lighter, so that no two are the same. It takes about ten minutes; `--max 100000` stops earlier.

Each task runs as `scale.py worker evaluate|calibrate MODEL FACES.npz COUNT OUTPUT.json`. The level of memory is taken
after the imports, the model and the first small run; the peak is watched from outside.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import Watch, busy_mark, memory, options, run, table
from numpy.typing import NDArray

from edgefer.data import FaceSet, open_dataset, synthetic_faces
from edgefer.errors import EdgeferError
from edgefer.progress import announce, progress

MODEL = "lenet"
COUNTS = (1_000, 10_000, 100_000, 1_000_000)
QUICK_COUNTS = (300, 600)
TASKS = ("evaluate", "calibrate")
BLOCK = 1000
"""Faces that are made at once, each block by a seed of its own."""
MADE = 50_000
"""Number of synthetic faces; those beyond are variants of them."""
STEP = 6
"""Grey levels between one variant's lightness and the next."""
POLL = 0.02
LINEAR = 1.15
"""Maximum of seconds per face at the largest count, as a multiple of those at 10,000."""
MAX_BYTES_PER_FACE = 400.0
"""Maximum of anonymous memory per face between 10,000 and the largest count; a face has 2,304 pixels."""
WARM = 256
"""Faces of the first small run: libraries, arenas and buffers are then in memory."""
STYLES = {"evaluate": ("evaluation", "#0072B2", "o"), "calibrate": ("calibration", "#D55E00", "s")}


@click.command()
@options("scale", "300 and 600 faces, to see that it works.")
@click.option(
    "--max",
    "max_faces",
    type=click.IntRange(min=1000),
    default=COUNTS[-1],
    show_default=True,
    help="Maximum number of faces.",
)
def main(quick: bool, max_faces: int, output: Path | None) -> None:
    """Measure seconds and memory over the number of faces."""
    counts = QUICK_COUNTS if quick else tuple(count for count in COUNTS if count <= max_faces)
    run("scale", quick, output, lambda watch: measure(counts, watch), part=max_faces < COUNTS[-1], plot=plot)


def measure(counts: tuple[int, ...], watch: Watch) -> dict[str, Any]:
    from edgefer.graph.export import export
    from edgefer.models.weights import shipped

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, faces = folder / "model.onnx", folder / "faces.npz"
        export(MODEL, model, random_weights=shipped(MODEL) is None)
        started = time.monotonic()
        write_synthetic(faces, max(counts))
        making = round(time.monotonic() - started, 1)
        rows = []
        for count in counts:
            for task in TASKS:
                with watch.over(f"{task}, {count:,} faces"):
                    rows.append(_row(task, model, faces, count, folder))
    return {"drawing_seconds": making, "model": MODEL, "rows": rows, "demands": _demands(rows)}


def write_synthetic(path: Path, count: int) -> None:
    """Write an npz of different faces without ever holding more than :data:`MADE` of them."""
    made, labels = _made(min(count, MADE))
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *made.shape[1:])}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for turn, start in enumerate(range(0, count, len(made))):
                stream.write(variant(made[: count - start], turn).tobytes())
        for name, array in (("labels.npy", np.resize(labels, count)), ("splits.npy", np.full(count, "train"))):
            with archive.open(name, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array)


def _made(count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, labels = np.empty((count, 48, 48, 1), np.uint8), np.empty(count, np.int64)
    with progress("synthetic faces", count) as advance:
        for start in range(0, count, BLOCK):
            size = min(BLOCK, count - start)
            images[start : start + size], labels[start : start + size] = synthetic_faces(size, seed=start)
            advance(size)
    return images, labels


def variant(images: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """The faces themselves (0), flipped (1), then both darker (2, 3), lighter (4, 5), darker still (6, 7), …."""
    level = turn // 2
    shift = STEP * ((level + 1) // 2) * (-1 if level % 2 else 1)
    faces = images[:, :, ::-1] if turn % 2 else images
    return np.clip(faces.astype(np.int16) + shift, 0, 255).astype(np.uint8)


def _row(task: str, model: Path, faces: Path, count: int, folder: Path) -> dict[str, Any]:
    output = folder / f"{task}-{count}.json"
    process = subprocess.Popen(
        [sys.executable, __file__, "worker", task, str(model), str(faces), str(count), str(output)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    level, peak = 0, 0
    while process.poll() is None:
        now = memory("RssAnon", process.pid)
        if not output.with_suffix(".ready").exists():
            level = now
        elif now:
            level, peak = (now, now) if not peak else (level, max(peak, now))
        time.sleep(POLL)
    if process.returncode or not output.is_file():
        told = (process.stderr.read() if process.stderr else "").strip().splitlines()
        raise EdgeferError(f"{task} of {count:,} faces failed: {told[-1] if told else process.returncode}")
    seconds = json.loads(output.read_text(encoding="utf-8"))
    row = {"task": task, "faces": count, **seconds, "level_bytes": level, "peak_bytes": max(0, peak - level)}
    announce(f"{task}, {count:,} faces: {row['seconds']:.1f} s, {row['peak_bytes'] / 1e6:,.1f} MB")
    return row


def _demands(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Linear time and flat memory, from 10,000 faces on: below, what does not depend on their number decides."""
    demands = []
    for task in TASKS:
        mine = [row for row in rows if row["task"] == task and row["faces"] >= 10_000]
        if len(mine) < 2:
            continue
        first, last = mine[0], mine[-1]
        times = (last["seconds"] / last["faces"]) / (first["seconds"] / first["faces"])
        grown = (last["peak_bytes"] - first["peak_bytes"]) / (last["faces"] - first["faces"])
        span = f"{task}, {first['faces']:,} to {last['faces']:,} faces"
        for demand, measured, passed in (
            (f"seconds per face at most {LINEAR} times as many", f"{times:.2f} times", times <= LINEAR),
            (
                f"at most {MAX_BYTES_PER_FACE:.0f} bytes of memory per face",
                f"{grown:.0f} bytes",
                grown <= MAX_BYTES_PER_FACE,
            ),
        ):
            demands.append({"demand": f"{span}: {demand}", "measured": measured, "passed": passed})
    return demands


def worker(task: str, model: str, path: str, count: str, output: str) -> None:
    """Do a task in this process, and write seconds; a file beside the output says when the level may be taken."""
    faces = open_dataset(path).split("train")
    work = {"evaluate": _evaluate, "calibrate": _calibrate}[task](model)
    work(faces.subset(np.arange(WARM)))
    Path(output).with_suffix(".ready").touch()
    time.sleep(0.5)  # the level is read meanwhile
    start = time.perf_counter()
    work(faces.subset(np.arange(int(count))))
    Path(output).write_text(json.dumps({"seconds": time.perf_counter() - start}), encoding="utf-8")


def _evaluate(model: str) -> Callable[[FaceSet], object]:
    from edgefer.engines.load import load_engine
    from edgefer.measure.evaluate import evaluate

    engine = load_engine(model)
    return lambda faces: evaluate(engine, faces).top1


def _calibrate(model: str) -> Callable[[FaceSet], object]:
    from edgefer.graph.onnx_file import load_model
    from edgefer.optimize.calibrate import take_ranges
    from edgefer.optimize.settings import CalibrationRecipe

    proto, contract = load_model(model)
    return lambda faces: take_ranges(proto, contract, faces, CalibrationRecipe(len(faces), 0, "percentile"))


def plot(result: dict[str, Any], charts: Any) -> str:
    """Seconds and memory over faces; dotted is what linear time would be."""
    counts = sorted({row["faces"] for row in result["rows"]})
    for task, (label, colour, marker) in STYLES.items():
        rows = [row for row in result["rows"] if row["task"] == task]
        for axes, key, factor in zip(charts, ("seconds", "peak_bytes"), (1.0, 1e-6), strict=True):
            values = [row[key] * factor for row in rows]
            axes.plot(counts, values, color=colour, marker=marker, label=label, linewidth=2)
        line = [rows[-1]["seconds"] * count / rows[-1]["faces"] for count in counts]
        charts[0].plot(counts, line, color=colour, linewidth=0.8, linestyle=":")
    charts[0].set_yscale("log")
    charts[1].set_ylim(bottom=0)
    for axes, title in zip(charts, ("Time, s (dotted: linear)", "Memory above the level, MB"), strict=True):
        axes.minorticks_off()
        axes.set_title(title, loc="left", fontsize=10)
    return f"{result['model']}, synthetic faces"


def page(result: dict[str, Any]) -> str:
    """A line per count: seconds and memory of each task, and what the demands say."""
    rows = []
    for count in sorted({row["faces"] for row in result["rows"]}):
        found = {row["task"]: row for row in result["rows"] if row["faces"] == count}
        cells = [(f"{found[task]['seconds']:,.1f}", f"{found[task]['peak_bytes'] / 1e6:,.1f}") for task in TASKS]
        rows.append([f"{count:,}", *(cell for pair in cells for cell in pair)])
    demands = [f"- {d['demand']}: {d['measured']}{'' if d['passed'] else ' (missed)'}" for d in result["demands"]]
    parts = [
        "## How cost grows",
        f"{result['environment']['cpu']}, {result['environment']['cores']} cores; {result['model']}, synthetic faces.",
        *busy_mark(result, "seconds are "),
        table(["faces", "evaluation, s", "MB", "calibration, s", "MB"], rows, left=0),
        "![Seconds and memory over the number of faces](../benchmarks/results/scale.png)",
        "\n".join(demands),
        "Measured by `python benchmarks/scale.py`.",
    ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    worker(*sys.argv[2:]) if sys.argv[1:2] == ["worker"] else main()
