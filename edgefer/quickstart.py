"""The whole road in one call: faces, training, export, float and INT8 engines, and what they cost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edgefer.atomic import write_text
from edgefer.data import FaceSet, contact_sheet, open_dataset, save_npz, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.engines.cpu import instruction_set
from edgefer.engines.load import load_engine
from edgefer.graph.export import export
from edgefer.measure.evaluate import evaluate
from edgefer.models.registry import architecture
from edgefer.models.weights import shipped
from edgefer.optimize.build import build_engine
from edgefer.optimize.settings import Quantisation
from edgefer.progress import announce
from edgefer.report.bench import benchmark
from edgefer.report.report import Report
from edgefer.report.timing import BenchSettings
from edgefer.runtimes import BF16
from edgefer.training import TrainConfig, train

SYNTHETIC_FACES = 6000
SYNTHETIC_TEST_SHARE = 0.2
BENCH_SECONDS = 15.0
TEST_FACES = 4000
"""Maximum number of test faces that are evaluated: enough for an interval of about a point, few enough for minutes."""
SHOWN_PER_CLASS = 12
SMALL_MACS = 20_000_000


@dataclass(frozen=True)
class Quickstart:
    """The report of a quickstart, and each file it made with its description."""

    report: Report
    files: tuple[tuple[Path, str], ...]


def run(output: Path, *, data: str | None, model: str, seconds: float, seed: int) -> Quickstart:
    """Fill the folder ``output``; ``data`` is a dataset or None for synthetic faces; ``seconds`` are those of training.

    Raises:
        EdgeferError: the data cannot be read or lack a class, or the folder cannot be written.
    """
    files: list[tuple[Path, str]] = []

    def made(name: str, what: str) -> Path:
        files.append((output / name, what))
        return output / name

    if data is None:
        faces = _synthetic(made("faces.npz", f"{SYNTHETIC_FACES} synthetic faces with their labels"), seed)
    else:
        faces = _real(data, seed)
    weights = shipped(model) if data is not None else None
    if weights is None:
        weights = made("weights.safetensors", "the trained weights, with their contract")
        announce(f"training {model} for about {seconds:.0f} s")
        # Two threads gain a small network a fifth, and lose it nearly everything where a core is busy elsewhere.
        threads = 1 if architecture(model).macs < SMALL_MACS else None
        precision = "bf16" if set(BF16) & set(instruction_set()) else "fp32"  # a quarter faster where the CPU has it
        config = TrainConfig(epochs=1000, max_seconds=seconds, seed=seed, threads=threads, precision=precision)
        result = train(faces, model, weights, config, resume=False)
        announce(f"top-1 on val: {100 * result.best_val_top1:.1f} % after {result.epochs} epochs")
    else:
        announce(f"using the weights that ship for {model}")
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
    write_text(made("report.json", "the numbers above"), json.dumps(report.to_json(), indent=2) + "\n")
    test = faces.split("test")
    shown = test.stratified(min(len(test), SHOWN_PER_CLASS * len(test.classes)), seed)
    with load_engine(engines[-1]) as int8:
        answers = evaluate(int8, shown).answers
    sheet = made("contact-sheet.png", "test faces with the INT8 engine's answers, wrong ones in red")
    contact_sheet(shown, sheet, per_class=SHOWN_PER_CLASS, predicted=answers)
    return Quickstart(report, tuple(files))


def _synthetic(path: Path, seed: int) -> FaceSet:
    announce(f"making {SYNTHETIC_FACES} synthetic faces")
    images, labels = synthetic_faces(SYNTHETIC_FACES, seed)
    test = int(SYNTHETIC_FACES * SYNTHETIC_TEST_SHARE)
    splits = ["test"] * test + ["train"] * (SYNTHETIC_FACES - test)
    save_npz(path, images, labels, FER2013, splits)
    return open_dataset(path)


def _real(data: str, seed: int) -> FaceSet:
    faces = open_dataset(data)
    if {"train", "test"} <= set(faces.splits):
        return faces
    announce(f"{faces.origin} has no train and test part: its {len(faces):,} faces are divided 80 : 20 by a hash")
    return faces.redivided(seed)
