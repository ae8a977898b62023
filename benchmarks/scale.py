#!/usr/bin/env python3
"""How cost grows with the number of faces: `python benchmarks/scale.py`, from a thousand to a million, drawn.

Evaluation (batch 64, one process) and calibration (all methods in one pass), each in a process of its own. Time should
be linear. Memory should be flat but for what is kept a face: labels, row numbers and logits for an evaluation, and
hashes, which the manifest lists, for a calibration. Counted is anonymous memory above the level after a first small
run: pages of the mapped file are the system's cache, which it takes back when it needs them.

What grows with the faces does not depend on the network, so a small one is taken (lenet; mini_xception takes four times
as long). A million faces are 2.3 GB on disk; 50,000 are drawn, and all others are those again, mirrored, darker or
lighter, so that no two are the same. It takes about ten minutes; `--most 100000` stops earlier.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from ending import conclude, destination, one_error
from numpy.typing import NDArray
from scale_plot import plot
from sources import REPOSITORY

from edgefer.data import synthetic_faces
from edgefer.errors import EdgeferError
from edgefer.graph.export import export
from edgefer.measure.environment import Usage, busy_before, describe_environment, others_since, too_busy
from edgefer.models.weights import shipped
from edgefer.progress import announce, progress

RESULTS = REPOSITORY / "benchmarks" / "results" / "scale.json"
MODEL = "lenet"
COUNTS = (1_000, 10_000, 100_000, 1_000_000)
QUICK_COUNTS = (300, 600)
TASKS = ("evaluate", "calibrate")
BLOCK = 1000
"""Faces that are drawn at once, each block by a seed of its own."""
DRAWN = 50_000
"""So many faces are drawn; those beyond are variants of them."""
STEP = 6
"""Grey levels between one variant's lightness and the next."""
POLL = 0.02
LINEAR = 1.15
"""Seconds a face at the most faces may be so many times those at 10,000."""
MOST_BYTES_A_FACE = 400.0
"""Of anonymous memory, between 10,000 and the most faces; a face has 2,304 pixels."""


@click.command()
@click.option("--quick", is_flag=True, help="300 and 600 faces, to see that it works.")
@click.option("--most", type=click.IntRange(min=1000), default=COUNTS[-1], show_default=True, help="Faces at most.")
@click.option("--output", type=click.Path(path_type=Path), help="JSON, with a PNG beside it.")
def main(quick: bool, most: int, output: Path | None) -> None:
    """Measure seconds and memory over the number of faces."""
    with one_error():
        path = destination(RESULTS, output, part=quick or most < COUNTS[-1])
        counts = QUICK_COUNTS if quick else tuple(count for count in COUNTS if count <= most)
        conclude(measure(counts, quick), path, plot)


def measure(counts: tuple[int, ...], quick: bool) -> dict[str, Any]:
    """Everything, for JSON."""
    started = time.monotonic()
    busy = busy_before(0.2 if quick else 2.0)
    environment = describe_environment()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, faces = folder / "model.onnx", folder / "faces.npz"
        export(MODEL, model, random_weights=shipped(MODEL) is None)
        drawn = time.monotonic()
        write_drawn(faces, max(counts))
        drawing = time.monotonic() - drawn
        rows = [_row(task, model, faces, count, folder) for count in counts for task in TASKS]
    busy += [reason for row in rows if (reason := row.pop("busy", None))]
    return {
        "benchmark": "scale",
        "quick": quick,
        "quiet": not busy,
        "busy": busy,
        "seconds": round(time.monotonic() - started),
        "drawing_seconds": round(drawing, 1),
        "environment": environment,
        "model": MODEL,
        "rows": rows,
        "demands": [] if quick else _demands(rows),
    }


def write_drawn(path: Path, count: int) -> None:
    """Write an npz of different faces without ever holding more than :data:`DRAWN` of them."""
    drawn, labels = _drawn(min(count, DRAWN))
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *drawn.shape[1:])}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(stream, header)  # type: ignore[arg-type]  # a zip entry is a stream
            for turn, start in enumerate(range(0, count, len(drawn))):
                stream.write(variant(drawn[: count - start], turn).tobytes())
        for name, array in (("labels.npy", np.resize(labels, count)), ("splits.npy", np.full(count, "train"))):
            with archive.open(name, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array)  # type: ignore[arg-type]


def _drawn(count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, labels = np.empty((count, 48, 48, 1), np.uint8), np.empty(count, np.int64)
    with progress("drawing", count) as advance:
        for start in range(0, count, BLOCK):
            size = min(BLOCK, count - start)
            images[start : start + size], labels[start : start + size] = synthetic_faces(size, seed=start)
            advance(size)
    return images, labels


def variant(images: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """The faces themselves (0), mirrored (1), then both darker (2, 3), lighter (4, 5), darker still (6, 7), …."""
    level = turn // 2
    shift = STEP * ((level + 1) // 2) * (-1 if level % 2 else 1)
    faces = images[:, :, ::-1] if turn % 2 else images
    return np.clip(faces.astype(np.int16) + shift, 0, 255).astype(np.uint8)


def _row(task: str, model: Path, faces: Path, count: int, folder: Path) -> dict[str, Any]:
    worker = Path(__file__).with_name("scale_worker.py")
    output = folder / f"{task}-{count}.json"
    before = Usage.now()
    process = subprocess.Popen(
        [sys.executable, str(worker), task, str(model), str(faces), str(count), str(output)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    level, peak = 0, 0
    while process.poll() is None:
        now = _anonymous_bytes(process.pid)
        if not output.with_suffix(".ready").exists():
            level = now
        elif now:
            level, peak = (now, now) if not peak else (level, max(peak, now))
        time.sleep(POLL)
    others = others_since(before)
    if process.returncode or not output.is_file():
        told = (process.stderr.read() if process.stderr else "").strip().splitlines()
        raise EdgeferError(f"{task} of {count:,} faces failed: {told[-1] if told else process.returncode}")
    row = {"task": task, "faces": count, **json.loads(output.read_text(encoding="utf-8"))}
    row.update(level_bytes=level, peak_bytes=max(0, peak - level))
    if others is not None and too_busy(others):
        row["busy"] = f"{task}, {count:,} faces: other processes used {others:.2f} cores"
    announce(f"{task}, {count:,} faces: {row['seconds']:.1f} s, {row['peak_bytes'] / 1e6:,.1f} MB")
    return row


def _anonymous_bytes(pid: int) -> int:
    """Memory of its own that a process has now; 0 where it has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    found = re.search(r"^RssAnon:\s*(\d+) kB", status, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def _demands(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Linear time and flat memory, from 10,000 faces on: below, what does not depend on their number decides."""
    demands = []
    for task in TASKS:
        mine = [row for row in rows if row["task"] == task and row["faces"] >= 10_000]
        if len(mine) < 2:
            continue
        first, last = mine[0], mine[-1]
        ratio = (last["seconds"] / last["faces"]) / (first["seconds"] / first["faces"])
        grown = (last["peak_bytes"] - first["peak_bytes"]) / (last["faces"] - first["faces"])
        span = f"{task}, {first['faces']:,} to {last['faces']:,} faces"
        demands += [
            {
                "demand": f"{span}: seconds a face at most {LINEAR} times as many",
                "measured": f"{ratio:.2f} times",
                "passed": ratio <= LINEAR,
            },
            {
                "demand": f"{span}: at most {MOST_BYTES_A_FACE:.0f} bytes of memory a face",
                "measured": f"{grown:.0f} bytes",
                "passed": grown <= MOST_BYTES_A_FACE,
            },
        ]
    return demands


if __name__ == "__main__":
    main()
