"""One network as the rows of the CPU benchmark: PyTorch eager, and every engine that this machine can run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefer.contract import Contract
from edgefer.data import FaceSet, refuse_overlap
from edgefer.data.classes import FER2013
from edgefer.engines.classifier import Classifier
from edgefer.graph.export import export
from edgefer.measure.accuracy import macro_f1, macro_f1_ci95
from edgefer.measure.evaluate import evaluate
from edgefer.measure.paired import Paired
from edgefer.models import create, default_contract
from edgefer.models.weights import load_network, shipped
from edgefer.optimize.build import MAX_DROP_PP
from edgefer.optimize.candidates import FLOAT, Candidate, CandidateResult, Job, all_variants, evaluated, prepare_job
from edgefer.optimize.settings import Quantisation
from edgefer.progress import announce

if TYPE_CHECKING:
    from torch import nn

EAGER = "PyTorch eager"
ONNXRUNTIME = FLOAT.label
CALIBRATION_FACES = 500


@dataclass(frozen=True)
class Network:
    """What is timed. ``results`` has an entry an engine, evaluated on ``val`` where there are weights and faces."""

    name: str
    module: nn.Module
    contract: Contract
    weights: str
    job: Job
    engines: tuple[Candidate, ...]
    results: tuple[CandidateResult, ...]
    accuracy: Mapping[str, Mapping[str, Any]]
    parity: float  # largest difference of a logit of the exported file from PyTorch's

    @contextmanager
    def opened(self, threads: int) -> Iterator[dict[str, Classifier]]:
        """Every row by its label, with ``threads``; closed afterwards."""
        with _opened(self.module, self.contract, self.engines, threads) as rows:
            yield rows

    def describe(self) -> dict[str, Any]:
        """What does not depend on batch and threads, for JSON."""
        calibration = self.job.record
        rows = [
            {"label": EAGER, "runtime": "pytorch", "precision": "fp32", "scheme": None, "bytes": _bytes(self.module)}
        ]
        rows += [
            {"label": f.label, "runtime": f.runtime, "precision": f.precision, "scheme": f.scheme, "bytes": f.bytes}
            for f in self.results
        ]
        return {
            "weights": self.weights,
            "calibration": None
            if calibration is None
            else {"faces": calibration.n, "method": calibration.method, "seed": calibration.seed},
            "rows": [{**row, "accuracy": self.accuracy.get(str(row["label"]))} for row in rows],
        }


def prepare(
    name: str, folder: Path, real: FaceSet | None, drawn: FaceSet, faces: int | None, own: Path | None = None
) -> Network:
    """Export, calibrate and build ``name``; judge it where it has weights and ``real`` faces are there.

    Weights are those of the file ``own``, else those that ship, else random ones. Ranges come from ``faces`` (None: the
    usual number) of ``real``, or of ``drawn`` if nothing is evaluated.
    """
    file = own or shipped(name)
    if file is None:
        announce(f"{name}: no weights, so random ones: speed only, no accuracy")
        module, contract, weights = _untrained(name), default_contract(name, FER2013), "random"
    else:
        module, contract, loaded = load_network(file, name)
        weights = f"{'shipped' if own is None else 'by its recipe'}, sha256 {loaded.sha256[:12]}…"
    judging = real if file is not None else None
    announce(f"{name}: exporting and building")
    model = folder / f"{name}.onnx"
    exported = export(module, model, contract=contract)
    calib = drawn if judging is None else judging
    corrections = None if judging is not None else ()  # without accuracy there is nothing to correct
    job = prepare_job(model, "int8", Quantisation(calib, faces=faces, corrections=corrections))
    engines = tuple(job.build(variant) for variant in all_variants())
    results = tuple(CandidateResult.of(built) for built in engines)
    accuracy: dict[str, dict[str, Any]] = {}
    if judging is not None:
        announce(f"{name}: predicting {len(judging.split('test')):,} test faces with {1 + len(engines)} engines")
        results, accuracy = _judge(module, contract, job, engines, judging)
    parity = exported.max_abs_diff
    return Network(name, module, contract, weights, job, engines, results, accuracy, parity)


def _judge(
    module: nn.Module, contract: Contract, job: Job, engines: tuple[Candidate, ...], faces: FaceSet
) -> tuple[tuple[CandidateResult, ...], dict[str, dict[str, Any]]]:
    """``val`` decides what `auto` may take; the public test is what is reported."""
    test = faces.split("test")
    if job.record is not None:
        refuse_overlap(job.record.face_hashes, test.face_hashes(), "the calibration faces", "the test faces")
    with _opened(module, contract, engines, threads=2) as rows:
        answers = {label: evaluate(engine, test) for label, engine in rows.items()}
        plain = [CandidateResult.of(built) for built in engines]
        reference = [f.label for f in plain].index(ONNXRUNTIME)
        results = evaluated(plain, [rows[f.label] for f in plain], faces.split("val"), reference, MAX_DROP_PP)
    accuracy = {}
    for label, predictions in answers.items():
        paired = Paired.from_predictions(answers[EAGER], predictions)
        quality = {
            "top1": predictions.top1,
            "top1_ci95": list(predictions.top1_ci95),
            "macro_f1": macro_f1(predictions),
            "macro_f1_ci95": list(macro_f1_ci95(predictions)),
        }
        accuracy[label] = {**quality, "n": predictions.n, **paired.to_dict()}
    return tuple(results), accuracy


@contextmanager
def _opened(
    module: nn.Module, contract: Contract, engines: tuple[Candidate, ...], threads: int
) -> Iterator[dict[str, Classifier]]:
    from edgefer.engines.pytorch import TorchSession

    with ExitStack() as stack:
        session = TorchSession(module, contract, threads)
        eager = Classifier(session, contract, precision="fp32", size_bytes=_bytes(module), name=EAGER)
        rows = {EAGER: stack.enter_context(eager)}
        for built in engines:
            rows[built.variant.label] = stack.enter_context(built.open(contract, threads))
        yield rows


def _untrained(name: str) -> nn.Module:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return create(name).eval()


def _bytes(module: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
