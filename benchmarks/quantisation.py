#!/usr/bin/env python3
"""INT8 files of one network beside each other: `python benchmarks/quantisation.py --data DATA --weights FILE …`.

Every row starts from the same float file, calibrates on the same faces and answers for the same test faces, in ONNX
Runtime on one thread. Rows: ours as it comes, ours with each step of refining and none; onnxruntime's `quantize_static`
(MinMax, Entropy, Percentile; uint8 × int8, weights a scale a channel, as ours). OpenVINO's NNCF and nvidia-modelopt pin
other versions of onnx, so each runs in an environment of its own, by --nncf PYTHON and --modelopt PYTHON.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from ending import conclude, destination, one_error
from sources import BESIDE, REPOSITORY

from calibration import HEADROOM, _kept_bytes
from edgefer.contract import Contract
from edgefer.data import FaceSet, open_dataset, refuse_overlap
from edgefer.engines.classifier import Classifier
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.errors import EdgeferError
from edgefer.graph.exporting import export
from edgefer.graph.save import serialise
from edgefer.measure.accuracy import Predictions, predict, wilson_interval
from edgefer.measure.environment import describe_environment
from edgefer.measure.paired import Paired
from edgefer.memory import available_memory
from edgefer.models.weights import load_weights, shipped
from edgefer.optimize.build import Job, prepare_job
from edgefer.optimize.output_error import OutputError
from edgefer.optimize.refiner import ALL_STEPS, DEFAULT_STEPS
from edgefer.optimize.variants import Variant, variants_of
from edgefer.progress import announce

RESULTS = REPOSITORY / "benchmarks" / "results" / "quantisation.json"
FACES = 500
OURS = {
    "edgefer": DEFAULT_STEPS,
    "edgefer, no refining": (),
    "edgefer, with bias": ("equalise", "bias"),
    "edgefer, with rounding": ("equalise", "rounding"),
    "edgefer, all steps": ALL_STEPS,
}
THEIRS = ("MinMax", "Entropy", "Percentile")
PEERS = {"nncf": "OpenVINO NNCF", "modelopt": "nvidia-modelopt"}
AIM_AGREEMENT, AIM_DROP = 0.985, 0.3


@click.command()
@click.option(
    "--weights", multiple=True, type=click.Path(path_type=Path), help="May be repeated; what ships if absent."
)
@click.option("--data", help="Whose `calib` part calibrates; FER2013 beside the repository if absent.")
@click.option("--test", help="Faces to answer for; the public test beside the repository if absent.")
@click.option("--faces", type=click.IntRange(min=7), default=FACES, show_default=True, help="That calibrate.")
@click.option("--limit", type=click.IntRange(min=7), help="Answer for so many test faces at most.")
@click.option("--only", multiple=True, help="These rows only (may be repeated).")
@click.option("--nncf", type=click.Path(path_type=Path), help="Python of an environment with nncf and onnx.")
@click.option(
    "--modelopt", type=click.Path(path_type=Path), help="Python of an environment with nvidia-modelopt[onnx]."
)
@click.option("--output", type=click.Path(path_type=Path), help=f"JSON; benchmarks/results/{RESULTS.name} if absent.")
def main(
    weights: tuple[Path, ...],
    data: str | None,
    test: str | None,
    faces: int,
    limit: int | None,
    only: tuple[str, ...],
    nncf: Path | None,
    modelopt: Path | None,
    output: Path | None,
) -> None:
    """Quantise each network in every way and compare the answers with float's."""
    part = limit is not None or bool(only) or faces != FACES
    with one_error():
        path = destination(RESULTS, output, part=part)
        calib = open_dataset(data or f"{BESIDE / 'train.npz'}")
        judges = open_dataset(test or f"{BESIDE / 'public_test.npz'}:all").part("test")
        if limit is not None and limit < len(judges):
            judges = judges.stratified(limit, 0)
        calib = calib.keeping_out(judges)
        files = weights or tuple(filter(None, (shipped("mini_xception"),)))
        pythons = {"nncf": nncf, "modelopt": modelopt}
        networks = {file.stem: measure(file, calib, judges, faces, only, pythons) for file in files}
        result = {
            "benchmark": "quantisation",
            "quick": part,
            "environment": describe_environment(),
            "calibration": {"data": Path(calib.origin).name, "faces": faces},
            "test": {"data": Path(judges.origin).name, "faces": len(judges)},
            "networks": networks,
        }
        conclude(result, path)


def measure(
    weights: Path,
    calib: FaceSet,
    judges: FaceSet,
    faces: int,
    only: tuple[str, ...],
    pythons: Mapping[str, Path | None],
) -> dict[str, Any]:
    """All rows of one network."""
    loaded = load_weights(weights)
    if loaded.contract is None:
        raise EdgeferError(f"{weights} has no contract", hint="`edgefer import-weights` writes weights that have one")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export(loaded.contract.architecture, folder / "model.onnx", weights=weights)
        job = prepare_job(folder / "model.onnx", "int8", calib, faces, None, None, refine=())
        assert job.calibration is not None  # it is INT8
        refuse_overlap(job.calibration.face_hashes, judges.face_hashes(), "the calibration faces", "the test faces")
        float_file = folder / "float.onnx"
        float_file.write_bytes(serialise(job.model))
        drawn = calib.split("calib").stratified(min(faces, len(calib.split("calib"))), job.calibration.seed)
        batches = np.concatenate([images for images, _ in drawn.batches(64, job.contract)])
        np.savez(folder / "faces.npz", images=batches)
        wanted = answers(job.build(Variant("onnxruntime", "fp32")).engine, job.contract, judges)
        rows = []
        for label, make in _makers(folder, calib, faces, job, pythons).items():
            if not only or label in only:
                rows.append(_row(label, make, job.contract, judges, wanted))
                announce(f"{weights.stem}: {rows[-1]}")
    return {
        "architecture": loaded.contract.architecture,
        "weights_sha256": loaded.sha256,
        "top1": wanted.top1,
        "top1_ci95": list(wanted.top1_ci95),
        "rows": rows,
    }


def _row(
    label: str, make: Callable[[], bytes], contract: Contract, judges: FaceSet, wanted: Predictions
) -> dict[str, Any]:
    start = time.monotonic()
    try:
        engine = make()
        seconds = time.monotonic() - start
        found = answers(engine, contract, judges)
    except EdgeferError as fault:
        return {"label": label, "skipped": fault.message}
    paired, error = Paired.from_predictions(wanted, found), OutputError.of(wanted, found)
    return {
        "label": label,
        "seconds": round(seconds, 2),
        "bytes": len(engine),
        **paired.to_dict(),
        "agreement_ci95": list(wilson_interval(paired.agreeing, paired.n)),
        "sqnr_db": error.sqnr_db,
        "kl": error.kl,
        "meets_the_aim": bool(paired.agreement >= AIM_AGREEMENT and paired.drop_pp <= AIM_DROP),
    }


def answers(engine: bytes, contract: Contract, faces: FaceSet) -> Predictions:
    """What a file answers in ONNX Runtime."""
    session = OnnxRuntimeSession(engine, threads=1)
    with Classifier(session, contract, precision="int8", size_bytes=len(engine), name="the file") as opened:
        return predict(opened, faces)


def _makers(
    folder: Path, calib: FaceSet, faces: int, job: Job, pythons: Mapping[str, Path | None]
) -> dict[str, Callable[[], bytes]]:
    """Row → what makes its file, calibration included."""
    variant = variants_of("int8", "onnxruntime")[0]

    def ours(steps: tuple[str, ...]) -> bytes:
        prepared = prepare_job(folder / "model.onnx", "int8", calib, faces, None, None, refine=steps)
        return prepared.build(variant).engine

    found: dict[str, Callable[[], bytes]] = {}
    for label, steps in OURS.items():
        found[label] = lambda steps=steps: ours(steps)
    for method in THEIRS:
        found[f"onnxruntime {method}"] = lambda method=method: _theirs(method, folder, job)
    for peer, label in PEERS.items():
        found[label] = lambda peer=peer: _peer(peer, pythons[peer], folder)
    return found


def _theirs(method: str, folder: Path, job: Job) -> bytes:
    """onnxruntime's quantize_static, one thread or many as it likes."""
    from calibration_worker import _Reader
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    images = np.load(folder / "faces.npz")["images"]
    each, largest = _kept_bytes(folder / "float.onnx")
    needs, free = len(images) * (each + 3 * largest), available_memory()
    if method != "MinMax" and needs > HEADROOM * free:
        raise EdgeferError(f"keeps every activation: {needs / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")
    images = images[: len(images) // 50 * 50]  # the reader feeds fifty at a time, and a smaller last batch stops it
    quantize_static(
        folder / "float.onnx",
        folder / "theirs.onnx",
        _Reader("faces", images),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        calibrate_method=getattr(CalibrationMethod, method),
    )
    return serialise(onnx.load(folder / "theirs.onnx"))


def _peer(peer: str, python: Path | None, folder: Path) -> bytes:
    if python is None:
        raise EdgeferError(f"no environment with it was given (--{peer} PYTHON)")
    output = folder / f"{peer}.onnx"
    worker = Path(__file__).with_name("quantisation_peer.py")
    command = [python, worker, peer, folder / "float.onnx", folder / "faces.npz", output]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode or not output.is_file():
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise EdgeferError(f"it failed: {lines[-1]}")
    return output.read_bytes()


if __name__ == "__main__":
    main()
