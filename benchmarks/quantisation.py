#!/usr/bin/env python3
"""INT8 files of one network beside each other: `python benchmarks/quantisation.py --weights FILE --weights FILE …`.

Every row starts from the same float file, calibrates on the same faces and answers for the same test faces, on one
thread. Rows: ours as it comes, with each correction and none, for ONNX Runtime, OpenVINO and TensorRT (the last
answered by ONNX Runtime); onnxruntime's `quantize_static`; OpenVINO's NNCF and nvidia-modelopt, each in an environment
of its own that is made when it is first needed, or by --environments-only. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from common import BESIDE, REPOSITORY, UNKNOWN, call, destination, one_error, table

from calibration import Reader, kept_bytes, memory_lacking
from edgefer.atomic import write_text
from edgefer.contract import Contract
from edgefer.data import FaceSet, open_dataset, refuse_overlap
from edgefer.engines.classifier import Classifier
from edgefer.engines.session import open_session
from edgefer.errors import EdgeferError
from edgefer.graph.export import export
from edgefer.graph.onnx_file import serialise
from edgefer.measure.accuracy import Predictions
from edgefer.measure.environment import describe_environment
from edgefer.measure.evaluate import evaluate
from edgefer.measure.paired import Paired
from edgefer.models.weights import load_weights, shipped
from edgefer.optimize.candidates import Variant, output_error, variants_of
from edgefer.optimize.prepared import PreparedModel, prepare_model
from edgefer.optimize.settings import CORRECTIONS, DEFAULT_CORRECTIONS, Quantisation
from edgefer.progress import announce
from edgefer.runtimes import title_of

FACES = 500
OURS = "edgefer"
STEPS = {
    "edgefer": DEFAULT_CORRECTIONS,
    "edgefer, no corrections": (),
    "edgefer, equalise": ("equalise",),
    "edgefer, equalise and bias": ("equalise", "bias"),
    "edgefer, equalise and rounding": ("equalise", "rounding"),
    "edgefer, all steps": CORRECTIONS,
}
THEIRS = ("MinMax", "Entropy", "Percentile")
PEERS = {
    "nncf": (("nncf==3.4.0", "openvino==2026.4.1"),),
    # torch first: from an index that has CPU wheels it is a tenth of the size that modelopt would install by itself
    "modelopt": (("torch==2.13.0",), ("nvidia-modelopt[onnx]==0.47.0",)),
}
"""Peer → what pip is asked for, in turn."""

FOLDER = Path(tempfile.gettempdir()) / "edgefer-peers"
AIM_AGREEMENT, AIM_DROP = 0.985, 0.3


@click.command()
@click.option("--weights", multiple=True, type=click.Path(path_type=Path), help="May be repeated; beside what ships.")
@click.option("--data", help="Calibrate on the `calib` part of this; FER2013 beside the repository if absent.")
@click.option("--test", help="Faces to answer for; the public test beside the repository if absent.")
@click.option(
    "--faces", type=click.IntRange(min=7), default=FACES, show_default=True, help="Number of calibration faces."
)
@click.option("--limit", type=click.IntRange(min=7), help="Maximum number of test faces.")
@click.option("--only", multiple=True, help="These rows only (may be repeated).")
@click.option(
    "--environments", type=click.Path(path_type=Path), default=FOLDER, show_default=True, help="Peers' environments."
)
@click.option("--environments-only", is_flag=True, help="Make the environments of all peers, and end.")
@click.option("--output", type=click.Path(path_type=Path), help="JSON; benchmarks/results/quantisation.json if absent.")
def main(  # noqa: PLR0913 - a command
    weights: tuple[Path, ...],
    data: str | None,
    test: str | None,
    faces: int,
    limit: int | None,
    only: tuple[str, ...],
    environments: Path,
    environments_only: bool,
    output: Path | None,
) -> None:
    """Quantise each network in every way and compare the answers with float's."""
    quick = limit is not None or bool(only) or faces != FACES
    with one_error():
        if environments_only:
            for peer in PEERS:
                environment(peer, environments)
            return
        path = destination("quantisation", output, part=quick)
        calib = open_dataset(data or f"{BESIDE / 'train.npz'}")
        test_faces = open_dataset(test or f"{BESIDE / 'public_test.npz'}:all").picked_or("test")
        if limit is not None and limit < len(test_faces):
            test_faces = test_faces.stratified(limit, 0)
        calib = calib.keeping_out(test_faces).picked_or("calib")
        record = Record(path, calib, test_faces, faces)
        for file in (*filter(None, (shipped("mini_xception"),)), *weights):
            measure(file, calib, test_faces, faces, only, environments, record)
        record.finish(quick)


class Record:
    """The results file, written after every row; of a run that was stopped it gives back the rows."""

    def __init__(self, path: Path, calib: FaceSet, test_faces: FaceSet, faces: int) -> None:
        self._path = path
        self.result: dict[str, Any] = {
            "benchmark": "quantisation",
            "quick": True,  # until it is whole
            "unfinished": True,
            "environment": describe_environment(),
            "calibration": {"data": Path(calib.origin).name, "faces": faces},
            "test": {"data": Path(test_faces.origin).name, "faces": len(test_faces)},
            "code": _code(),
            "networks": {},
        }
        before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        same = all(before.get(key) == self.result[key] for key in ("benchmark", "unfinished", "calibration", "test"))
        if not same:
            return
        ours_too = before["code"] == self.result["code"]
        for name, network in before["networks"].items():
            kept = [row for row in network["rows"] if ours_too or not row["label"].startswith("edgefer")]
            self.result["networks"][name] = {**network, "rows": [row for row in kept if "skipped" not in row]}
        announce(f"going on with {sum(len(n['rows']) for n in self.result['networks'].values())} rows of {path}")

    def network(self, name: str, about: dict[str, Any]) -> dict[str, Any]:
        """The entry of a network; empty if it was measured with other weights before."""
        known = self.result["networks"].get(name)
        if known is None or known["weights_sha256"] != about["weights_sha256"]:
            known = {**about, "rows": []}
            self.result["networks"][name] = known
        return dict(known)

    def write(self) -> None:
        """As far as it is."""
        write_text(self._path, json.dumps(self.result, indent=1, ensure_ascii=False) + "\n")

    def finish(self, quick: bool) -> None:
        """It is all there."""
        self.result.update(quick=quick, unfinished=False)
        self.write()
        announce(f"written: {self._path}")


def _code() -> str:
    """Hash of the code that makes our rows: they are measured again when it changes."""
    digest = hashlib.sha256()
    for folder in ("quantize", "optimize", "graph"):
        for file in sorted((REPOSITORY / "edgefer" / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def measure(
    weights: Path,
    calib: FaceSet,
    test_faces: FaceSet,
    faces: int,
    only: tuple[str, ...],
    environments: Path,
    record: Record,
) -> None:
    """All rows of one network."""
    with tempfile.TemporaryDirectory() as name:
        bench = Bench.of(weights, Path(name), calib, faces, environments)
        prepared = bench.prepared
        refuse_overlap(prepared.record.face_hashes, test_faces.face_hashes(), "the calibration faces", "the test faces")
        plain = prepared.build(Variant("onnxruntime", "fp32")).content
        wanted = answers("onnxruntime", plain, prepared.contract, test_faces)
        about = {
            "architecture": prepared.contract.architecture,
            "weights_sha256": load_weights(weights).sha256,
            "top1": wanted.top1,
            "top1_ci95": list(wanted.top1_ci95),
        }
        entry = record.network(weights.stem, about)
        ways = {label: way for label, way in bench.ways().items() if not only or label in only}
        done = {row["label"]: row for row in entry["rows"]}
        for label, way in sorted(ways.items(), key=lambda item: item[0].startswith("edgefer")):  # they outlive our code
            if label not in done:
                done[label] = _row(label, way, prepared.contract, test_faces, wanted)
                announce(f"{weights.stem}: {done[label]}")
            entry["rows"] = [done[name] for name in ways if name in done]
            record.result["networks"][weights.stem] = entry
            record.write()


def _row(label: str, way: Way, contract: Contract, test_faces: FaceSet, wanted: Predictions) -> dict[str, Any]:
    start = time.monotonic()
    try:
        engine = way.make()
        seconds = time.monotonic() - start
        found = answers(way.runtime, engine, contract, test_faces)
    except EdgeferError as fault:
        return {"label": label, "skipped": fault.message}
    paired, (sqnr_db, kl) = Paired.from_predictions(wanted, found), output_error(wanted, found)
    return {
        "label": label,
        "runtime": way.runtime,
        "seconds": round(seconds, 2),
        "bytes": _size(engine),
        **paired.to_dict(),
        "agreement_ci95": list(paired.agreement_ci95),
        "sqnr_db": sqnr_db,
        "kl": kl,
    }


def _size(engine: bytes | Path) -> int:
    if isinstance(engine, bytes):
        return len(engine)
    weights = engine.with_suffix(".bin")
    return engine.stat().st_size + (weights.stat().st_size if weights.is_file() else 0)


def answers(runtime: str, engine: bytes | Path, contract: Contract, faces: FaceSet) -> Predictions:
    """What a file answers in ``runtime``, float32 where it is not INT8."""
    session = open_session(runtime, engine, 1, "int8")
    with Classifier(session, contract, precision="int8", size_bytes=_size(engine), name="the file") as opened:
        return evaluate(opened, faces)


@dataclass(frozen=True)
class Way:
    """A row: ``make`` gives the file (an ONNX model, or the path of one of OpenVINO's), ``runtime`` runs it."""

    runtime: str
    make: Callable[[], bytes | Path]


@dataclass(frozen=True)
class Bench:
    """One network with its calibration faces, in a folder: ``model.onnx``, ``float.onnx`` (rewritten), ``faces.npz``.

    ``prepared`` is calibrated without any correction.
    """

    folder: Path
    calib: FaceSet
    faces: int
    prepared: PreparedModel
    environments: Path

    @classmethod
    def of(cls, weights: Path, folder: Path, calib: FaceSet, faces: int, environments: Path) -> Bench:
        """Export the network of ``weights`` and sample its calibration faces.

        Raises:
            EdgeferError: the weights have no contract.
        """
        loaded = load_weights(weights)
        if loaded.contract is None:
            raise EdgeferError(f"{weights} has no contract", hint="`edgefer import-weights` writes weights with one")
        export(loaded.contract.architecture, folder / "model.onnx", weights=weights)
        prepared = prepare_model(folder / "model.onnx", "int8", Quantisation(calib, faces=faces, corrections=()))
        (folder / "float.onnx").write_bytes(serialise(prepared.model))
        assert prepared.given is not None  # as calib is
        pictures = [images for images, _ in prepared.given.ranges.batches(64, prepared.contract)]
        np.savez(folder / "faces.npz", images=np.concatenate(pictures))
        return cls(folder, calib, faces, prepared, environments)

    def ways(self) -> dict[str, Way]:
        """Every row."""
        found: dict[str, Way] = {}
        for label, steps in STEPS.items():
            if label == "edgefer" or steps != DEFAULT_CORRECTIONS:
                found[label] = self._ours(variants_of("int8", "onnxruntime")[0], steps)
        for variant in variants_of("int8", "openvino"):
            found[f"edgefer, {variant.scheme}"] = self._ours(variant, DEFAULT_CORRECTIONS)
        found["edgefer, tensorrt"] = self._ours(Variant("onnxruntime", "int8", "tensorrt"), DEFAULT_CORRECTIONS)
        for method in THEIRS:
            found[f"onnxruntime {method}"] = Way("onnxruntime", lambda method=method: self._theirs(method))
        found["OpenVINO NNCF"] = Way("openvino", lambda: self._peer("nncf", ".xml"))
        found["nvidia-modelopt"] = Way("onnxruntime", lambda: self._peer("modelopt", ".onnx"))
        return found

    def _ours(self, variant: Variant, steps: tuple[str, ...]) -> Way:
        def make() -> bytes:
            model = self.folder / "model.onnx"
            prepared = prepare_model(model, "int8", Quantisation(self.calib, faces=self.faces, corrections=steps))
            return prepared.build(variant).content

        return Way(variant.runtime, make)

    def _theirs(self, method: str) -> bytes:
        """onnxruntime's quantize_static: uint8 × int8, a weight scale per channel, as ours."""
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        images = np.load(self.folder / "faces.npz")["images"]
        lacking = memory_lacking(len(images), *kept_bytes(self.folder / "float.onnx"))
        if method != "MinMax" and lacking:
            raise EdgeferError(lacking)
        images = images[: len(images) // 50 * 50]  # the reader feeds fifty at a time, and a smaller batch stops it
        output = self.folder / "theirs.onnx"
        quantize_static(
            self.folder / "float.onnx",
            output,
            Reader("faces", images),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=getattr(CalibrationMethod, method),
        )
        return serialise(onnx.load(output))

    def _peer(self, peer: str, suffix: str) -> Path:
        output = self.folder / f"{peer}{suffix}"
        worker = Path(__file__).with_name("quantisation_peer.py")
        files = (self.folder / "float.onnx", self.folder / "faces.npz", output)
        command = [environment(peer, self.environments), worker, peer, *files]
        call(peer, command, output, cwd=self.folder, env={**os.environ, "PYTHONPATH": str(worker.parents[1])})
        return output


def environment(peer: str, folder: Path = FOLDER) -> Path:
    """The Python of ``peer``'s environment under ``folder``, made if it is not there or not of these versions.

    Raises:
        EdgeferError: pip failed; says its last line.
    """
    home = folder / peer
    python, mark = home / "bin" / "python", home / "edgefer-ready"
    wanted = "\n".join(" ".join(step) for step in PEERS[peer])
    if mark.is_file() and mark.read_text(encoding="utf-8") == wanted:
        return python
    announce(f"making an environment for {peer} in {home}")
    venv.create(home, clear=True, with_pip=True)
    for step in PEERS[peer]:
        try:
            call("pip", [python, "-m", "pip", "install", "--quiet", *step])
        except EdgeferError as fault:
            lacking = f"pip could not install {' '.join(step)}: {fault.message}"
            raise EdgeferError(lacking, hint="is there a network?") from fault
    mark.write_text(wanted, encoding="utf-8")
    return python


def page(result: dict[str, Any]) -> str:
    """A table per network, with a row for each way to INT8; then what the defaults reach."""
    parts = [
        f"{result['calibration']['faces']} calibration faces of {result['calibration']['data']}, "
        f"{result['test']['faces']:,} test faces of {result['test']['data']}; the same float file and faces for every "
        "row; 95 % intervals. Bold: the best agreement of a network. Seconds: calibration and building on a busy "
        "machine, for their order of magnitude."
    ]
    for name, network in result["networks"].items():
        head = ["", "answers in", "agreement with float", "drop, points", "SQNR, dB", "KL, 10⁻³", "MB", "seconds"]
        best = max((row["agreement"] for row in network["rows"] if "skipped" not in row), default=0.0)
        parts += [
            f"#### {name} ({network['architecture']}), float top-1 {100 * network['top1']:.2f} %",
            table(head, [_cells(row, best) for row in network["rows"]], left=2),
            _verdict(network["rows"]),
        ]
    return "\n\n".join(parts)


def _cells(row: dict[str, Any], best: float) -> list[str]:
    if "skipped" in row:
        return [row["label"], UNKNOWN, f"not run: {row['skipped']}", *[UNKNOWN] * 5]
    low, high = (100 * end for end in row["agreement_ci95"])
    agreement = f"{100 * row['agreement']:.2f} %"
    return [
        row["label"],
        title_of(row["runtime"]),
        f"{f'**{agreement}**' if row['agreement'] == best else agreement} [{low:.2f}, {high:.2f}]",
        f"{row['drop_pp']:+.2f} [{row['ci95_pp'][0]:+.2f}, {row['ci95_pp'][1]:+.2f}]",
        f"{row['sqnr_db']:.1f}",
        f"{1000 * row['kl']:.2f}",
        f"{row['bytes'] / 1e6:.2f}",
        f"{row['seconds']:.0f}",
    ]


def _verdict(rows: list[dict[str, Any]]) -> str:
    """The aims at the defaults: agreement, drop, and a place before every peer."""
    done = [row for row in rows if "skipped" not in row]
    ours = next((row for row in done if row["label"] == OURS), None)
    if ours is None:
        return "The defaults were not measured."
    peers = [row for row in done if not row["label"].startswith(OURS)]
    said = [
        f"agreement of {100 * AIM_AGREEMENT:g} % {_held(ours['agreement'] >= AIM_AGREEMENT)}",
        f"drop of at most {AIM_DROP:g} points {_held(ours['drop_pp'] <= AIM_DROP)}",
    ]
    if peers:
        best = max(peers, key=lambda row: float(row["agreement"]))
        first = ours["agreement"] > best["agreement"]
        said.append(
            f"first in agreement {_held(first)} (the best peer is {best['label']}, {100 * best['agreement']:.2f} %)"
        )
    return f"At the defaults: {'; '.join(said)}."


def _held(held: bool) -> str:
    return "held" if held else "**not held**"


if __name__ == "__main__":
    main()
