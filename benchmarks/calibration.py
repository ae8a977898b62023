#!/usr/bin/env python3
"""Our streaming calibrator beside onnxruntime's three: `python benchmarks/calibration.py`, about five minutes.

Same model (mini_xception), same faces, same tensors. What differs: one pass of ours gives the ranges of every method,
theirs of one; ours runs the network on one thread and writes down which faces it saw (their hashes), theirs runs it on
all cores, its default, without graph optimisations. Percentile's is symmetric and at 99.999, its default. Loading the
model counts for all; imports and the faces count for none. Memory is the peak above the level before the work.

Each calibration runs in a process of its own: `calibration.py worker CALIBRATOR MODEL FACES.npz OUTPUT.json`.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import onnx
from common import BESIDE, Watch, busy_mark, call, memory, options, run, table
from numpy.typing import NDArray

from edgefer.data import open_dataset, save_npz, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.errors import EdgeferError
from edgefer.memory import available_memory
from edgefer.progress import announce
from edgefer.quantize.observation import observed_tensors

MODEL = "mini_xception"
COUNTS = (100, 1000, 5000)
QUICK_COUNTS = (50, 100)
REFERENCE_FACES, MAX_FACES = 500, 5000
GROWTH, MAX_MB = 0.10, 400.0
OURS = "edgefer"
CALIBRATORS = (OURS, "MinMax", "Entropy", "Percentile")
KEEPS_ALL = ("Entropy", "Percentile")
"""The calibrators of onnxruntime that keep every activation until the last face."""
REPEATS, REPEAT_SECONDS = 3, 20.0
"""Maximum number of repeats of a measurement, and the seconds after which no further one begins."""
HEADROOM = 0.85
FED = 50
"""Faces per call of onnxruntime's calibrators. One is usual; fifty are faster, and every count here is a multiple (with
a smaller last batch they stop: they stack all batches of a tensor into one array)."""
STYLES = {  # Okabe and Ito's colours, which the colour-blind tell apart; Entropy may lie on Percentile: dashed, above
    "edgefer": ("edgefer, all methods in one pass", "#0072B2", "o", "-"),
    "MinMax": ("onnxruntime MinMax", "#E69F00", "s", "-"),
    "Percentile": ("onnxruntime Percentile", "#009E73", "D", "-"),
    "Entropy": ("onnxruntime Entropy", "#CC79A7", "^", "--"),
}
LINE_POINTS = 12.0
"""Minimum vertical distance of two labels at the ends of lines."""

Work = Callable[[str, NDArray[np.uint8], Path], int]


@click.command()
@options("calibration", "50 and 100 synthetic faces, to see that it works.")
@click.option("--data", metavar="DATA", help="A data set whose train faces calibrate; FER2013 beside the repository.")
def main(quick: bool, data: str | None, output: Path | None) -> None:
    """Compare calibrators in seconds and in peak memory."""
    run("calibration", quick, output, lambda watch: measure(quick, data, watch), plot=plot)


def measure(quick: bool, data: str | None, watch: Watch) -> dict[str, Any]:
    from edgefer.graph.export import export
    from edgefer.models.weights import shipped

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model.onnx"
        export(MODEL, model, random_weights=shipped(MODEL) is None)
        counts = QUICK_COUNTS if quick else COUNTS
        faces = _Faces(None if quick else data, not quick, max(counts), folder)
        each, largest = kept_bytes(model)
        rows = []
        for count in sorted({*counts, *(() if quick else (REFERENCE_FACES,))}):
            for calibrator in CALIBRATORS if count in counts else (OURS,):
                row: dict[str, Any] = {"calibrator": calibrator, "faces": count}
                rows.append(row)
                if lacking := memory_lacking(count, each, largest) if calibrator in KEEPS_ALL else "":
                    announce(f"{calibrator}, {count:,} faces: left out: {lacking}")
                    row["skipped"] = lacking
                    continue
                with watch.over(f"{calibrator}, {count:,} faces"):
                    row |= _measured(calibrator, model, faces.first(count), folder, 1 if quick else REPEATS)
                announce(f"{calibrator}, {count:,} faces: {row['seconds']:.1f} s, {row['peak_bytes'] / 1e6:,.0f} MB")
    about = {"model": MODEL, "faces": faces.called, "kept_bytes_a_face": each}
    return {**about, "rows": rows, "demands": _demands(rows)}


class _Faces:
    """The same faces for all: the first ones of a stratified sample, in files that each worker reads."""

    def __init__(self, data: str | None, real: bool, count: int, folder: Path) -> None:
        self._folder = folder
        path = data if data is not None else str(BESIDE / "train.npz")
        if data is not None or (real and Path(path).is_file()):
            dataset = open_dataset(path if data is not None else f"{path}:all")
            train = dataset.split("train") if dataset.picked is None else dataset
            chosen = train.stratified(min(count, len(train)), seed=0)
            self._images = np.concatenate([images for images, _ in chosen.batches(256)])
            self._labels, self.called = chosen.labels, f"{Path(path).name if data else 'FER2013'}, train"
        else:
            self._images, self._labels = synthetic_faces(count, seed=0)
            self.called = "synthetic"
        if len(self._images) < count:
            raise EdgeferError(f"{path} has {len(self._images)} training faces, {count} are needed", hint="more data")

    def first(self, count: int) -> Path:
        path = self._folder / f"faces-{count}.npz"
        if not path.exists():
            save_npz(path, self._images[:count], self._labels[:count], FER2013)
        return path


def kept_bytes(path: Path) -> tuple[int, int]:
    """Bytes per face of all observed tensors together, and of the largest (which the collectors copy three times)."""
    model = onnx.load(path)
    inferred = onnx.shape_inference.infer_shapes(model)
    shapes = {value.name: value.type.tensor_type.shape for value in inferred.graph.value_info}
    sizes = [4 * int(np.prod([d.dim_value for d in shapes[name].dim[1:]])) for name in observed_tensors(model)]
    return sum(sizes), max(sizes)


def memory_lacking(count: int, each: int, largest: int) -> str:
    """Why a calibrator that keeps every activation of ``count`` faces is not tried; empty if there is room."""
    needs, free = count * (each + 3 * largest), available_memory()
    if needs <= HEADROOM * free:
        return ""
    return f"keeps every activation: {needs / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"


def _measured(calibrator: str, model: Path, faces: Path, folder: Path, repeats: int) -> dict[str, Any]:
    taken: list[dict[str, Any]] = []
    output = folder / "result.json"
    command = [sys.executable, __file__, "worker", calibrator, str(model), str(faces), str(output)]
    while len(taken) < repeats and sum(one["seconds"] for one in taken) < REPEAT_SECONDS:
        output.unlink(missing_ok=True)
        call(calibrator, command, output)
        taken.append(json.loads(output.read_text(encoding="utf-8")))
    return {
        "seconds": median(one["seconds"] for one in taken),
        "peak_bytes": median(one["peak_bytes"] for one in taken),
        "peak_bytes_range": [pick(one["peak_bytes"] for one in taken) for pick in (min, max)],
        "level_bytes": taken[-1]["level_bytes"],
        "tensors": taken[-1]["tensors"],
        "repeats": len(taken),
    }


def _demands(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Memory does not grow with the faces, and is little."""
    ours = {row["faces"]: row for row in rows if row["calibrator"] == OURS}
    if REFERENCE_FACES not in ours or MAX_FACES not in ours:
        return []
    few, many = (ours[count]["peak_bytes"] / 1e6 for count in (REFERENCE_FACES, MAX_FACES))
    whole = many + ours[MAX_FACES]["level_bytes"] / 1e6
    return [
        {
            "demand": f"memory at {MAX_FACES:,} faces is at most {GROWTH:.0%} above that at {REFERENCE_FACES}",
            "measured": f"{many:.0f} MB and {few:.0f} MB, {many / few - 1:+.1%}",
            "passed": bool(many / few - 1 <= GROWTH),
        },
        {
            "demand": f"memory at {MAX_FACES:,} faces is under {MAX_MB:.0f} MB",
            "measured": f"{many:.0f} MB; {whole:.0f} MB with Python, its imports and the faces",
            "passed": bool(whole < MAX_MB),
        },
    ]


def worker(calibrator: str, model: str, faces: str, output: str) -> None:
    """Calibrate once in this process, and write seconds and bytes."""
    work = _edgefer(faces) if calibrator == OURS else _onnxruntime(calibrator)
    images = np.load(faces)["images"]
    images.max()  # every page is here before the level is taken
    level = _forget_peak()
    start = time.perf_counter()
    tensors = work(model, images, Path(output).with_suffix(".augmented.onnx"))
    found = {"seconds": time.perf_counter() - start, "peak_bytes": _peak() - level}
    Path(output).write_text(json.dumps({**found, "level_bytes": level, "tensors": tensors}), encoding="utf-8")


def _edgefer(faces: str) -> Work:
    import onnxruntime  # noqa: F401 - imported before the level is taken, as for the others

    from edgefer.graph.onnx_file import load_model
    from edgefer.optimize.calibrate import take_ranges
    from edgefer.optimize.settings import CalibrationRecipe
    from edgefer.quantize.ranges import threshold

    dataset = open_dataset(f"{faces}:train")
    dataset.images(np.arange(len(dataset))).max()

    def work(model: str, images: NDArray[np.uint8], scratch: Path) -> int:
        proto, contract = load_model(model)
        ranges, _ = take_ranges(proto, contract, dataset, CalibrationRecipe(len(dataset), 0, "percentile"))
        return len([threshold(h, "percentile", symmetric=False) for h in ranges.tensors.values()])

    return work


def _onnxruntime(name: str) -> Work:
    """The calibrator that create_calibrator makes, told to look at the tensors that edgefer looks at."""
    import onnxruntime  # noqa: F401 - imported before the level is taken
    from onnxruntime.quantization import calibrate

    given: dict[str, Any] = {"Percentile": {"symmetric": True, "num_bins": 2048, "percentile": 99.999}}
    makers = {"MinMax": "MinMaxCalibrater", "Entropy": "EntropyCalibrater", "Percentile": "PercentileCalibrater"}

    def work(model: str, images: NDArray[np.uint8], scratch: Path) -> int:
        wanted = set(observed_tensors(onnx.load(model)))
        made = getattr(calibrate, makers[name])(model, augmented_model_path=str(scratch), **given.get(name, {}))
        infos = made.select_tensors_to_calibrate(made.model)[1]
        made.select_tensors_to_calibrate = lambda _: (wanted, infos)
        made.augment_graph()
        made.create_inference_session()
        made.collect_data(Reader(made.infer_session.get_inputs()[0].name, images))
        return len(made.compute_data().data)

    return work


class Reader:
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
    return memory("VmRSS")


def _peak() -> int:
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return memory("VmHWM") or (largest if sys.platform == "darwin" else largest * 1024)


def plot(result: dict[str, Any], charts: Any) -> str:
    """Seconds and memory over faces, all axes logarithmic, with each line's last value beside its end."""
    kinds = (("seconds", 1.0, "Time, s"), ("peak_bytes", 1e-6, "Peak memory, MB"))
    counts = sorted({row["faces"] for row in result["rows"]})
    for axes, (key, factor, title) in zip(charts, kinds, strict=True):
        ends = []
        for calibrator, (label, colour, marker, dashes) in STYLES.items():
            rows = [row for row in result["rows"] if row["calibrator"] == calibrator and key in row]
            points = [(row["faces"], row[key] * factor) for row in rows]
            if points:
                axes.plot(*zip(*points, strict=True), dashes, label=label, color=colour, marker=marker, linewidth=2)
                ends.append((*points[-1], colour))
        axes.set_yscale("log")
        axes.minorticks_off()
        axes.set_title(title, loc="left", fontsize=10)
        axes.yaxis.set_major_formatter(lambda value, _: _short(value))
        axes.set_xlim(counts[0] * 0.8, counts[-1] * 2.2)
        axes.figure.canvas.draw()  # settles the layout, by which labels are kept apart
        _label_ends(axes, ends, 72.0 / axes.figure.dpi)
    return f"Calibrating {result['model']} ({result['faces']} faces)"


def _label_ends(axes: Any, ends: list[tuple[float, float, str]], points_a_pixel: float) -> None:
    """From below upwards; what would overlap is moved up."""
    above: dict[float, float] = {}
    for faces, value, colour in sorted(ends, key=lambda end: end[1]):
        height = axes.transData.transform((faces, value))[1] * points_a_pixel
        written = max(height, above.get(faces, 0.0) + LINE_POINTS) if faces in above else height
        above[faces] = written
        place = (8, written - height)
        axes.annotate(_short(value), (faces, value), place, textcoords="offset points", va="center", color=colour)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.2g}"


def page(result: dict[str, Any]) -> str:
    """A row per calibrator: seconds and MB at each number of faces, and the demands."""
    counts = sorted({row["faces"] for row in result["rows"] if row["calibrator"] != OURS})
    found = {(row["calibrator"], row["faces"]): row for row in result["rows"]}
    rows = [
        [STYLES[name][0], *(_seconds_and_memory(found[name, count]) for count in counts)]
        for name in dict.fromkeys(row["calibrator"] for row in result["rows"])
    ]
    notes = [
        f"{'Held' if d['passed'] else '**Not held**'}: {d['demand']} ({d['measured']})." for d in result["demands"]
    ]
    notes += _aims(found, max(counts, default=0)) + busy_mark(result, "seconds are ")
    return "\n\n".join([table(["", *(f"{count:,} faces" for count in counts)], rows), *notes])


def _aims(found: dict[tuple[str, int], dict[str, Any]], count: int) -> list[str]:
    """How far ours is below onnxruntime's Entropy, where both were run."""
    ours, theirs = (found.get((name, count), {"skipped": ""}) for name in (OURS, "Entropy"))
    if "skipped" in ours or "skipped" in theirs:
        return []
    said = []
    for what, key, aim in (("time", "seconds", 8), ("memory", "peak_bytes", 25)):
        times = theirs[key] / ours[key]
        held = "Held" if times >= aim else "**Not held**"
        said.append(
            f"{held}: at most 1/{aim} of the {what} of onnxruntime's Entropy at {count:,} faces (1/{times:.1f})."
        )
    return said


def _seconds_and_memory(row: dict[str, Any]) -> str:
    if "skipped" in row:
        return f"not run: {row['skipped']}"
    return f"{row['seconds']:.1f} s, {row['peak_bytes'] / 1e6:,.0f} MB"


if __name__ == "__main__":
    worker(*sys.argv[2:]) if sys.argv[1:2] == ["worker"] else main()
