#!/usr/bin/env python3
"""Every engine for this CPU beside PyTorch and ONNX Runtime: `python benchmarks/cpu.py`, about seven minutes.

A network, a batch size and a number of threads make one run, in which all rows take turns (see common.py). Networks
without weights get random ones: speed does not depend on them, accuracy is left out. `auto` is the candidate that the
auto choice takes from a shorter run of its own, so that its row here is not the luckiest of several.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import common
import numpy as np
from numpy.typing import NDArray

from edgefer.contract import Contract
from edgefer.data import FaceSet, refuse_overlap, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.engines.classifier import Classifier
from edgefer.errors import EdgeferError
from edgefer.faces import prepare_batch
from edgefer.graph.export import export
from edgefer.measure.accuracy import macro_f1, macro_f1_ci95
from edgefer.measure.evaluate import evaluate
from edgefer.measure.latency import Interleaved
from edgefer.measure.paired import Paired
from edgefer.models import create, default_contract, names
from edgefer.models.weights import load_network, shipped
from edgefer.optimize.build import MAX_DROP_PP
from edgefer.optimize.candidates import FLOAT, Candidate, CandidateResult, all_variants, choose, evaluated
from edgefer.optimize.prepared import PreparedModel, prepare_model
from edgefer.optimize.settings import Quantisation
from edgefer.progress import announce
from edgefer.runtimes import CPU, PYTORCH, for_target

if TYPE_CHECKING:
    from torch import nn

EAGER, ONNXRUNTIME = "PyTorch eager", FLOAT.label
CALIBRATION_FACES = 500
NETWORKS = ("mini_xception", "resnet11", "vgg9")
TIMED_FACES = 64


@dataclass(frozen=True)
class Plan:
    """What to measure (batch size, threads), and how long: batch size → effort of the timing, and of `auto`'s own."""

    combinations: tuple[tuple[int, int], ...]
    timing: dict[int, common.Effort]
    choosing: dict[int, common.Effort]
    calibration_faces: int | None


FULL = Plan(
    combinations=((1, 1), (1, 2), (32, 1), (32, 2)),
    timing={1: common.Effort(12.0, 15, 20), 32: common.Effort(12.0, 12, 2)},
    choosing={1: common.Effort(3.0, 10, 10), 32: common.Effort(3.0, 10, 2)},
    calibration_faces=None,
)
QUICK = Plan(
    combinations=((1, 2), (32, 1)),
    timing={1: common.Effort(0.1, 3, 8), 32: common.Effort(0.1, 3, 1)},
    choosing={1: common.Effort(0.1, 2, 10), 32: common.Effort(0.1, 10, 2)},
    calibration_faces=70,
)


@click.command()
@common.options("cpu")
@click.option("--only", multiple=True, metavar="NAME", help="Measure this network (may be repeated).")
@click.option("--data", metavar="DATA", help="A data set with train and test faces: ranges and accuracies.")
def main(quick: bool, only: tuple[str, ...], data: str | None, output: Path | None) -> None:
    """Time every engine for this CPU beside PyTorch eager and onnxruntime FP32."""
    with common.one_error():
        unknown = [name for name in only if name not in names()]
        if unknown:
            raise EdgeferError(f"no network is called '{unknown[0]}'", hint=f"known: {', '.join(names())}")
    plan, networks = QUICK if quick else FULL, only or NETWORKS
    common.run("cpu", quick, output, lambda watch: measure(plan, networks, data, watch), part=bool(only))


def measure(plan: Plan, networks: tuple[str, ...], data: str | None, watch: common.Watch) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        with_accuracy = data is not None or any(shipped(name) for name in networks)
        real, called = (common.real_faces(data, Path(folder)) if with_accuracy else None) or (None, None)
        synthetic = common.synthetic_set(plan.calibration_faces or CALIBRATION_FACES, Path(folder) / "synthetic.npz")
        for name in networks:
            network = prepare(name, Path(folder), real, synthetic, plan.calibration_faces)
            measured[name] = {**network.describe(), "runs": _runs(plan, network, watch)}
    with_accuracies = any(row["accuracy"] for network in measured.values() for row in network["rows"])
    return {"data": called if with_accuracies else None, "networks": measured}


def _runs(plan: Plan, network: Network, watch: common.Watch) -> list[dict[str, Any]]:
    """All combinations; sessions are opened once a number of threads, and the others' are closed by then."""
    runs = []
    for threads in sorted({threads for _, threads in plan.combinations}):
        with network.opened(threads) as engines:
            for batch in [batch for batch, wanted in plan.combinations if wanted == threads]:
                announce(f"{network.name}: timing batch {batch}, threads {threads}, {len(engines)} rows")
                where = f"{network.name}, batch {batch}, {threads} thread{'s' if threads > 1 else ''}"
                with watch.over(where):
                    runs.append(_run(plan, network, engines, batch, threads))
    return runs


def _run(plan: Plan, network: Network, engines: dict[str, Classifier], batch: int, threads: int) -> dict[str, Any]:
    batches = batches_of(network, batch)
    auto = chosen_by_auto(network, engines, batches, threads, plan.choosing[batch])
    taken = common.take_turns(engines, batches, threads, plan.timing[batch])
    references = {"over_pytorch": EAGER, "over_onnxruntime": ONNXRUNTIME}
    return {
        "batch": batch,
        "threads": threads,
        "unsettled": list(taken.unsettled),
        "rounds": len(taken.rounds_ms[EAGER]),
        "auto": auto,
        "rows": {label: row_of(taken, label, batch, references) for label in engines},
    }


def row_of(taken: Interleaved, name: str, batch: int, references: Mapping[str, str]) -> dict[str, Any]:
    """One row: ms, faces per second (batch ÷ median), and how many times faster than each of ``references``."""
    latency = taken.latency(name)
    return {
        "p50_ms": latency.p50,
        "p95_ms": latency.p95,
        "n": latency.n,
        "images_per_s": None if latency.p50 is None else 1000.0 * batch / latency.p50,
        "drift": taken.drift(name),
        **{key: common.as_json(taken.speedup(reference, name)) for key, reference in references.items()},
    }


def chosen_by_auto(
    network: Network,
    engines: dict[str, Classifier],
    batches: list[NDArray[np.uint8]],
    threads: int,
    effort: common.Effort,
) -> str:
    """What `auto` takes here: the fastest engine within the tolerance on val (of all, where nothing was evaluated)."""
    candidates = {row.label: engines[row.label] for row in network.results}
    taken = common.take_turns(candidates, batches, threads, effort)
    timed = [replace(row, p50_ms=taken.latency(row.label).p50) for row in network.results]
    return next(row.label for row in choose(timed) if row.chosen)


def batches_of(network: Network, batch: int) -> list[NDArray[np.uint8]]:
    """Different synthetic faces that go round, brought to the network's shape."""
    images, _ = synthetic_faces(TIMED_FACES, seed=2)
    faces = prepare_batch(images, network.contract)
    return [np.ascontiguousarray(faces[i : i + batch]) for i in range(0, TIMED_FACES - batch + 1, batch)]


@dataclass(frozen=True)
class Network:
    """What is timed. ``results`` has an entry an engine, evaluated on ``val`` where there are weights and faces."""

    name: str
    module: nn.Module
    contract: Contract
    weights: str
    prepared: PreparedModel
    engines: tuple[Candidate, ...]
    results: tuple[CandidateResult, ...]
    accuracy: Mapping[str, Mapping[str, Any]]
    parity: float  # largest difference of a logit of the exported file from PyTorch's

    @contextmanager
    def opened(self, threads: int) -> Iterator[dict[str, Classifier]]:
        """Every row by its label, with ``threads``; closed afterwards."""
        with opened(self.module, self.contract, self.engines, threads) as rows:
            yield rows

    def describe(self) -> dict[str, Any]:
        """What does not depend on batch and threads, for JSON."""
        calibration = self.prepared.record
        rows = [("pytorch", EAGER, "fp32", None, _bytes(self.module))]
        rows += [(row.runtime, row.label, row.precision, row.scheme, row.bytes) for row in self.results]
        keys = ("runtime", "label", "precision", "scheme", "bytes")
        described = [{**dict(zip(keys, row, strict=True)), "accuracy": self.accuracy.get(row[1])} for row in rows]
        return {
            "weights": self.weights,
            "calibration": None
            if calibration is None
            else {"faces": calibration.n, "method": calibration.method, "seed": calibration.seed},
            "rows": described,
        }


def prepare(
    name: str, folder: Path, real: FaceSet | None, synthetic: FaceSet, faces: int | None, own: Path | None = None
) -> Network:
    """Export, calibrate and build ``name``; evaluate it where it has weights and ``real`` faces are there.

    Weights are those of the file ``own``, else those that ship, else random ones. Ranges come from ``faces`` (None: the
    usual number) of ``real``, or of ``synthetic`` if nothing is evaluated.
    """
    file = own or shipped(name)
    if file is None:
        announce(f"{name}: no weights, so random ones: speed only, no accuracy")
        module, contract, weights = _untrained(name), default_contract(name, FER2013), "random"
    else:
        module, contract, loaded = load_network(file, name)
        weights = f"{'shipped' if own is None else 'by its recipe'}, sha256 {loaded.sha256[:12]}…"
    labelled = real if file is not None else None
    announce(f"{name}: exporting and building")
    model = folder / f"{name}.onnx"
    exported = export(module, model, contract=contract)
    calib = synthetic if labelled is None else labelled
    corrections = None if labelled is not None else ()  # without accuracy there is nothing to correct
    prepared = prepare_model(model, "int8", Quantisation(calib, faces=faces, corrections=corrections))
    engines = tuple(prepared.build(variant) for variant in all_variants())
    results = tuple(CandidateResult.of(built) for built in engines)
    accuracy: dict[str, dict[str, Any]] = {}
    if labelled is not None:
        announce(f"{name}: predicting {len(labelled.split('test')):,} test faces with {1 + len(engines)} engines")
        results, accuracy = _evaluated(module, contract, prepared, engines, labelled)
    parity = exported.max_abs_diff
    return Network(name, module, contract, weights, prepared, engines, results, accuracy, parity)


def _evaluated(
    module: nn.Module, contract: Contract, prepared: PreparedModel, engines: tuple[Candidate, ...], faces: FaceSet
) -> tuple[tuple[CandidateResult, ...], dict[str, dict[str, Any]]]:
    """``val`` decides what `auto` may take; the public test is what is reported."""
    test = faces.split("test")
    if prepared.record is not None:
        refuse_overlap(prepared.record.face_hashes, test.face_hashes(), "the calibration faces", "the test faces")
    with opened(module, contract, engines, threads=2) as rows:
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
def opened(
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


def page(result: dict[str, Any]) -> str:
    """A section per network; speed-ups are those of batch 1 with one thread."""
    environment = result["environment"]
    packages = [name for row in (PYTORCH, *for_target(CPU).values()) for name in row.distributions]
    versions = ", ".join(f"{k} {environment['packages'][k]}" for k in packages if k in environment["packages"])
    lines = [
        f"{environment['cpu']}, {environment['cores']} cores, {environment['os']}; {versions}. Batch 1: median ms of a "
        "call. Batch 32: faces per second. t: threads. Speed-ups: batch 1, one thread, with 95 % intervals."
    ]
    if result["data"]:
        lines.append(
            "Drop (points of top-1, with 95 % interval) and agreement: against PyTorch, on the test faces of "
            f"{result['data']}."
        )
    parts = [" ".join([*lines, *common.busy_mark(result)])]
    for name, network in result["networks"].items():
        parts += [f"#### {name}", _network_table(network), _auto_note(network)]
    return "\n\n".join(parts)


def _network_table(network: dict[str, Any]) -> str:
    runs = {(run["batch"], run["threads"]): run for run in network["runs"]}
    first = min(runs)  # speed-ups are taken from it
    described = {row["label"]: row for row in network["rows"]}
    with_accuracy = any(row["accuracy"] for row in network["rows"])
    head = ["", *(f"batch {b}, {t} t, {'ms' if b == 1 else 'faces/s'}" for b, t in sorted(runs))]
    head += ["over PyTorch", "over onnxruntime FP32", "MB", *(["drop", "agreement"] if with_accuracy else [])]
    chosen = [(label, label, {key: run["rows"][label] for key, run in runs.items()}) for label in described]
    chosen.append(("**auto**", runs[first]["auto"], {key: run["rows"][run["auto"]] for key, run in runs.items()}))
    lines = []
    for title, label, taken in chosen:
        row = described[label]
        cells = [title]
        cells += [common.number(taken[key]["p50_ms" if key[0] == 1 else "images_per_s"]) for key in sorted(taken)]
        for key, itself in (("over_pytorch", EAGER), ("over_onnxruntime", ONNXRUNTIME)):
            cells.append("1" if label == itself else common.ratio(taken[first][key]))
        cells.append(common.number(row["bytes"] / 1e6))
        if with_accuracy:
            cells += _accuracy(row["accuracy"], itself=title == EAGER)
        lines.append(cells)
    return common.table(head, lines)


def _accuracy(accuracy: dict[str, Any] | None, *, itself: bool) -> list[str]:
    if accuracy is None or itself:
        return [f"top-1 {100 * accuracy['top1']:.2f} %" if accuracy else common.UNKNOWN, common.UNKNOWN]
    low, high = accuracy["ci95_pp"]
    return [f"{accuracy['drop_pp']:.2f} [{low:.2f}, {high:.2f}]", f"{100 * accuracy['agreement']:.2f} %"]


def _auto_note(network: dict[str, Any]) -> str:
    took: dict[str, list[str]] = {}
    for run in sorted(network["runs"], key=lambda run: (run["batch"], run["threads"])):
        took.setdefault(run["auto"], []).append(f"batch {run['batch']} with {run['threads']} t")
    if len(took) == 1:
        choice = f"`auto` takes {next(iter(took))} throughout."
    else:
        choice = "`auto` takes " + "; ".join(f"{label} for {', '.join(where)}" for label, where in took.items()) + "."
    return choice + (" Random weights: speed only." if network["weights"] == "random" else "")


if __name__ == "__main__":
    main()
