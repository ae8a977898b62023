"""The whole road in one call: faces, training, export, float and INT8 engines, and what they cost."""

from __future__ import annotations

import json
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgefer.atomic import write_text
from edgefer.data import FaceSet, aligned, contact_sheet, open_dataset, save_npz, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.engines.cpu import instruction_set
from edgefer.engines.load import load_engine
from edgefer.graph.export import export
from edgefer.intake import require_opencv
from edgefer.measure.evaluate import evaluate
from edgefer.models.importing import import_weights
from edgefer.models.registry import architecture
from edgefer.models.weights import load_weights, shipped, shipped_for
from edgefer.optimize.build import build_engine
from edgefer.optimize.settings import Quantisation
from edgefer.progress import announce
from edgefer.provenance import begin_as
from edgefer.report.bench import benchmark
from edgefer.report.evaluated import MIN_LEFT
from edgefer.report.page import page
from edgefer.report.report import Report, Row
from edgefer.report.timing import BenchSettings
from edgefer.runtimes import BF16, REFERENCE
from edgefer.training import TrainConfig, train

SYNTHETIC_FACES = 6000
SYNTHETIC_TEST_SHARE = 0.2
BENCH_SECONDS = 15.0
TEST_FACES = 4000
"""Maximum number of test faces that are evaluated: enough for an interval of about a point, few enough for minutes."""
SHOWN_PER_CLASS = 12
SMALL_MACS = 150_000_000
SMOOTHING = 0.95
"""Decay of the averaged weights: the average of some twenty steps, for a run of a hundred or two."""


@dataclass(frozen=True)
class Start:
    """The weights that training begins with, and how it goes on from there.

    Attributes:
        faces: the data, with the classes in the order of the weights'.
        weights: a weights file; None: random ones.
        lr: peak learning rate; None: the network's own.
        frozen: the part of the run in which only the last layer learns.
    """

    faces: FaceSet
    weights: Path | None = None
    lr: float | None = None
    frozen: float = 0.0


@dataclass(frozen=True)
class Quickstart:
    """The result of a quickstart.

    Attributes:
        report: what was measured.
        files: each file that was made, with its description.
        verdict: what INT8 gains or loses beside FP32, in words.
        next_commands: what to type next, each with its purpose.
    """

    report: Report
    files: tuple[tuple[Path, str], ...]
    verdict: str
    next_commands: tuple[tuple[str, str], ...]


def run(output: Path, *, data: str | None, model: str, seconds: float, seed: int) -> Quickstart:
    """Fill the folder ``output``; ``data`` is a dataset or None for synthetic faces; ``seconds`` are those of training.

    Training begins with the weights that ship for ``model``, if some do: as they are where their classes are the
    data's, with a new last layer otherwise.

    Raises:
        EdgeferError: the data cannot be read or lack a class, or the folder cannot be written.
    """
    architecture(model)  # a wrong name or number, or a missing package, is said before anything is read or made
    TrainConfig(max_seconds=seconds, seed=seed)
    REFERENCE.require("building engines")
    require_opencv("drawing a contact sheet")
    files: list[tuple[Path, str]] = []

    def made(name: str, what: str) -> Path:
        files.append((output / name, what))
        return output / name

    if data is None:
        faces = _synthetic(made("faces.npz", f"{SYNTHETIC_FACES} synthetic faces with their labels"), seed)
    else:
        faces = _real(data)
    weights = made("weights.safetensors", "the trained weights, with their contract")
    with tempfile.TemporaryDirectory(prefix="edgefer-quickstart-") as folder:
        start = _start(model, faces, Path(folder) / "start.safetensors", real=data is not None)
        faces = start.faces
        _train(start, model, weights, seconds, seed)
    onnx_file = made("model.onnx", "the network with its normalisation inside")
    exported = export(model, onnx_file, weights=weights)
    announce(f"exported: largest difference from PyTorch {exported.max_abs_diff:.1e}")
    engines = []
    for precision, quantisation in (("fp32", None), ("int8", Quantisation(faces, seed=seed))):
        engine = made(f"model.{precision}.onnx", f"the {precision.upper()} engine")
        build_engine(onnx_file, engine, precision=precision, quantisation=quantisation)
        made(f"{engine.name}.json", "its manifest")
        engines.append(engine)
    settings = BenchSettings(seconds=BENCH_SECONDS, limit=TEST_FACES, seed=seed)
    report = benchmark(engines, faces, str(weights), settings)
    write_text(made("report.html", "the report as a page: open it in a browser"), page(report))
    write_text(made("report.json", "the report's numbers"), json.dumps(report.to_json(), indent=2) + "\n")
    test = faces.split("test")
    shown = test.stratified(min(len(test), SHOWN_PER_CLASS * len(test.classes)), seed)
    with load_engine(engines[-1]) as int8:
        answers = evaluate(int8, shown).answers
    sheet = made("contact-sheet.png", "test faces with the INT8 engine's answers, wrong ones in red")
    contact_sheet(shown, sheet, per_class=SHOWN_PER_CLASS, predicted=answers)
    return Quickstart(report, tuple(files), int8_verdict(*report.rows[1:3]), _next_commands(output, data, model))


def int8_verdict(fp32: Row, int8: Row) -> str:
    """What the INT8 engine gains or loses beside the FP32 one, in words."""
    if fp32.latency is None or int8.latency is None or not fp32.latency.p50 or not int8.latency.p50:
        return "INT8 and FP32 were not timed"
    disturbed = " (disturbed: see above)" if int8.disturbed.median or fp32.disturbed.median else ""
    times = f"p50 {int8.latency.p50:.3g} ms against {fp32.latency.p50:.3g} ms"
    if int8.latency.p50 >= fp32.latency.p50:
        return (
            f"INT8 does not pay for this network on this CPU: {times}{disturbed}. Use the FP32 engine, or let "
            "`edgefer build-engine --auto` choose"
        )
    gain = f"INT8 is {fp32.latency.p50 / int8.latency.p50:.1f} × as fast as FP32 on this CPU: {times}"
    size = f"{fp32.size_bytes / int8.size_bytes:.1f} × smaller" if fp32.size_bytes and int8.size_bytes else ""
    return f"{gain}{disturbed}" + (f", and {size}" if size else "")


def _next_commands(output: Path, data: str | None, model: str) -> tuple[tuple[str, str], ...]:
    engine = shlex.quote(str(output / "model.int8.onnx"))
    if data is None:
        return (
            ("edgefer quickstart --data FACES", "the same on your own faces: a folder for each class, a csv or an npz"),
            ("edgefer contract new --module nets:Net -o net.toml", "the first step with a PyTorch network of your own"),
            ("edgefer web", "try the network that ships, on a page of this machine"),
        )
    faces, folder = shlex.quote(data), shlex.quote(str(output / "bundle"))
    weights, exported = (shlex.quote(str(output / name)) for name in ("weights.safetensors", "model.onnx"))
    return (
        (f"edgefer web {engine}", "try it on a page of this machine"),
        (f"edgefer train --model {model} --init {weights} --data {faces} -o better.safetensors", "train for longer"),
        (f"edgefer deploy bundle {exported} --calib {faces} -o {folder}", "all that a Jetson builds its engine from"),
    )


def _synthetic(path: Path, seed: int) -> FaceSet:
    announce(f"making {SYNTHETIC_FACES} synthetic faces")
    images, labels = synthetic_faces(SYNTHETIC_FACES, seed)
    test = int(SYNTHETIC_FACES * SYNTHETIC_TEST_SHARE)
    splits = ["test"] * test + ["train"] * (SYNTHETIC_FACES - test)
    save_npz(path, images, labels, FER2013, splits)
    return open_dataset(path)


def _real(data: str) -> FaceSet:
    faces = open_dataset(data)
    if {"train", "test"} <= set(faces.splits):
        return faces
    announce(f"{faces.origin} has no train and test part: its {len(faces):,} faces are divided 80 : 20 by a hash")
    return faces.redivided()


def _start(model: str, faces: FaceSet, path: Path, *, real: bool) -> Start:
    """Where training begins; ``path`` is written where the last layer has to be new. Photos need smaller steps."""
    known = shipped_for(model)
    if not known:
        announce(f"no weights ship for {model}: it starts from random ones")
        return Start(faces)
    for name in known:
        weights = shipped(name)
        contract = None if weights is None else load_weights(weights).contract
        if contract is not None and set(contract.labels) == set(faces.classes):
            if real and _met_too_many(faces, name):
                return Start(faces)
            announce(f"fine-tuning the weights that ship as {name}")
            return Start(aligned(faces, contract.labels), weights, 2e-4 if real else 1.5e-3)
    if real and _met_too_many(faces, known[0]):
        return Start(faces)
    announce(
        f"fine-tuning the weights that ship as {known[0]}, with a new last layer for {len(faces.classes)} classes: "
        f"{', '.join(faces.classes)}"
    )
    import_weights(known[0], model, path, classes=faces.classes, drop_head=True)
    return Start(faces, path, 1e-3, frozen=0.1)


def _met_too_many(faces: FaceSet, name: str) -> bool:
    """Whether the weights that ship as ``name`` leave too few test faces to measure on; it is said before training."""
    weights, test = load_weights(shipped(name) or name), faces.split("test")
    keys = test.group_keys()
    met = begin_as(test.face_hashes(), weights.seen.union(*weights.met.values()))
    left = len(np.setdiff1d(keys, keys[met]))
    if not met.any() or left >= MIN_LEFT:
        return False
    announce(
        f"the weights that ship as {name} met {int(met.sum()):,} of the {len(test):,} test faces, and {left} distinct "
        "ones are too few to measure on: training starts from random weights"
    )
    return True


def _train(start: Start, model: str, weights: Path, seconds: float, seed: int) -> None:
    announce(f"training {model} for about {seconds:.0f} s")
    # A second thread gains a small network a fifth, and loses it nearly everything where a core is busy elsewhere.
    threads = 1 if architecture(model).macs < SMALL_MACS else None
    precision = "bf16" if set(BF16) & set(instruction_set()) else "fp32"  # a quarter faster where the CPU has it
    config = TrainConfig(
        epochs=1000,
        max_seconds=seconds,
        lr=start.lr,
        frozen=start.frozen,
        batch_size=64,
        ema_decay=SMOOTHING,
        seed=seed,
        threads=threads,
        precision=precision,
    )
    result = train(start.faces, model, weights, config, init=start.weights, resume=False)
    announce(f"top-1 on val: {100 * result.best_val_top1:.1f} % after {result.epochs} epochs")
