#!/usr/bin/env python3
"""INT8 files of one network beside each other: `python benchmarks/quantisation.py --weights FILE --weights FILE …`.

Every row starts from the same float file, calibrates on the same faces and answers for the same test faces, on one
thread. Rows: ours as it comes, with each correction and none, for ONNX Runtime, OpenVINO and TensorRT (the last
answered by ONNX Runtime); onnxruntime's `quantize_static`; OpenVINO's NNCF and nvidia-modelopt, each in an environment
of its own that is made when it is first needed (benchmarks/peers.py). A run that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from ending import destination, one_error
from peers import FOLDER
from quantisation_ways import Bench, Way
from sources import BESIDE, REPOSITORY

from edgefer.atomic import write_text
from edgefer.contract import Contract
from edgefer.data import FaceSet, open_dataset, refuse_overlap
from edgefer.engines.classifier import Classifier
from edgefer.engines.session import open_session
from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import Predictions, wilson_interval
from edgefer.measure.environment import describe_environment
from edgefer.measure.evaluate import evaluate
from edgefer.measure.paired import Paired
from edgefer.models.weights import load_weights, shipped
from edgefer.optimize.candidates import Variant, output_error
from edgefer.progress import announce

RESULTS = REPOSITORY / "benchmarks" / "results" / "quantisation.json"
FACES = 500


@click.command()
@click.option("--weights", multiple=True, type=click.Path(path_type=Path), help="May be repeated; beside what ships.")
@click.option("--data", help="Whose `calib` part calibrates; FER2013 beside the repository if absent.")
@click.option("--test", help="Faces to answer for; the public test beside the repository if absent.")
@click.option("--faces", type=click.IntRange(min=7), default=FACES, show_default=True, help="That calibrate.")
@click.option("--limit", type=click.IntRange(min=7), help="Answer for so many test faces at most.")
@click.option("--only", multiple=True, help="These rows only (may be repeated).")
@click.option("--environments", type=click.Path(path_type=Path), default=FOLDER, show_default=True, help="Of peers.")
@click.option("--output", type=click.Path(path_type=Path), help=f"JSON; benchmarks/results/{RESULTS.name} if absent.")
def main(
    weights: tuple[Path, ...],
    data: str | None,
    test: str | None,
    faces: int,
    limit: int | None,
    only: tuple[str, ...],
    environments: Path,
    output: Path | None,
) -> None:
    """Quantise each network in every way and compare the answers with float's."""
    quick = limit is not None or bool(only) or faces != FACES
    with one_error():
        path = destination(RESULTS, output, part=quick)
        calib = open_dataset(data or f"{BESIDE / 'train.npz'}")
        judges = open_dataset(test or f"{BESIDE / 'public_test.npz'}:all").part("test")
        if limit is not None and limit < len(judges):
            judges = judges.stratified(limit, 0)
        calib = calib.keeping_out(judges)
        record = Record(path, calib, judges, faces)
        for file in (*filter(None, (shipped("mini_xception"),)), *weights):
            measure(file, calib, judges, faces, only, environments, record)
        record.finish(quick)


class Record:
    """The results file, written after every row; of a run that was stopped it gives back the rows."""

    def __init__(self, path: Path, calib: FaceSet, judges: FaceSet, faces: int) -> None:
        self._path = path
        self.result: dict[str, Any] = {
            "benchmark": "quantisation",
            "quick": True,  # until it is whole
            "unfinished": True,
            "environment": describe_environment(),
            "calibration": {"data": Path(calib.origin).name, "faces": faces},
            "test": {"data": Path(judges.origin).name, "faces": len(judges)},
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
    """Of what makes our rows: they are measured again when it changes."""
    digest = hashlib.sha256()
    for folder in ("quantize", "optimize", "graph"):
        for file in sorted((REPOSITORY / "edgefer" / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def measure(
    weights: Path,
    calib: FaceSet,
    judges: FaceSet,
    faces: int,
    only: tuple[str, ...],
    environments: Path,
    record: Record,
) -> None:
    """All rows of one network."""
    with tempfile.TemporaryDirectory() as name:
        bench = Bench.of(weights, Path(name), calib, faces, environments)
        job = bench.job
        assert job.record is not None  # it is INT8
        refuse_overlap(job.record.face_hashes, judges.face_hashes(), "the calibration faces", "the test faces")
        wanted = answers(Way("onnxruntime", lambda: b""), _float(bench), job.contract, judges)
        about = {
            "architecture": job.contract.architecture,
            "weights_sha256": load_weights(weights).sha256,
            "top1": wanted.top1,
            "top1_ci95": list(wanted.top1_ci95),
        }
        entry = record.network(weights.stem, about)
        ways = {label: way for label, way in bench.ways().items() if not only or label in only}
        done = {row["label"]: row for row in entry["rows"]}
        for label, way in sorted(ways.items(), key=lambda item: item[0].startswith("edgefer")):  # they outlive our code
            if label not in done:
                done[label] = _row(label, way, job.contract, judges, wanted)
                announce(f"{weights.stem}: {done[label]}")
            entry["rows"] = [done[name] for name in ways if name in done]
            record.result["networks"][weights.stem] = entry
            record.write()


def _float(bench: Bench) -> bytes:
    return bench.job.build(Variant("onnxruntime", "fp32")).engine


def _row(label: str, way: Way, contract: Contract, judges: FaceSet, wanted: Predictions) -> dict[str, Any]:
    start = time.monotonic()
    try:
        engine = way.make()
        seconds = time.monotonic() - start
        found = answers(way, engine, contract, judges)
    except EdgeferError as fault:
        return {"label": label, "skipped": fault.message}
    paired, (sqnr_db, kl) = Paired.from_predictions(wanted, found), output_error(wanted, found)
    return {
        "label": label,
        "runtime": way.runtime,
        "seconds": round(seconds, 2),
        "bytes": _size(engine),
        **paired.to_dict(),
        "agreement_ci95": list(wilson_interval(paired.agreeing, paired.n)),
        "sqnr_db": sqnr_db,
        "kl": kl,
    }


def _size(engine: bytes | Path) -> int:
    if isinstance(engine, bytes):
        return len(engine)
    weights = engine.with_suffix(".bin")
    return engine.stat().st_size + (weights.stat().st_size if weights.is_file() else 0)


def answers(way: Way, engine: bytes | Path, contract: Contract, faces: FaceSet) -> Predictions:
    """What a file answers in its runtime, float32 where it is not INT8."""
    session = open_session(way.runtime, engine, 1, "int8")
    with Classifier(session, contract, precision="int8", size_bytes=_size(engine), name="the file") as opened:
        return evaluate(opened, faces)


if __name__ == "__main__":
    main()
