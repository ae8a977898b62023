#!/usr/bin/env python3
"""Every engine for this CPU beside PyTorch and ONNX Runtime: `python benchmarks/cpu.py`, about seven minutes.

A network, a batch size and a number of threads make one run, in which all rows take turns (see turns.py). Networks
without weights get random ones: speed does not depend on them, accuracy is left out. `auto` is the candidate that the
auto choice takes from a shorter run of its own, so that its row here is not the luckiest of several.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from ending import conclude, destination, one_error
from network import CALIBRATION_FACES, EAGER, ONNXRUNTIME, Network, prepare
from numpy.typing import NDArray
from sources import real_faces, synthetic_set
from turns import Effort, figures, take_turns

from edgefer.data import synthetic_faces
from edgefer.engines.classifier import Classifier
from edgefer.errors import EdgeferError
from edgefer.measure.environment import Usage, busy_before, describe_environment, others_since, too_busy
from edgefer.models import names
from edgefer.models.weights import shipped
from edgefer.optimize.candidates import choose
from edgefer.progress import announce

RESULTS = Path(__file__).resolve().parent / "results" / "cpu.json"
NETWORKS = ("mini_xception", "resnet11", "vgg9")
TIMED_FACES = 64


@dataclass(frozen=True)
class Plan:
    """What to measure (batch size, threads), and how long: batch size → effort of the timing, and of `auto`'s own."""

    combinations: tuple[tuple[int, int], ...]
    timing: dict[int, Effort]
    choosing: dict[int, Effort]
    calibration_faces: int | None
    watch_seconds: float


FULL = Plan(
    combinations=((1, 1), (1, 2), (32, 1), (32, 2)),
    timing={1: Effort(12.0, 15, 20), 32: Effort(12.0, 12, 2)},
    choosing={1: Effort(3.0, 10, 10), 32: Effort(3.0, 10, 2)},
    calibration_faces=None,
    watch_seconds=2.0,
)
QUICK = Plan(
    combinations=((1, 2), (32, 1)),
    timing={1: Effort(0.1, 3, 8), 32: Effort(0.1, 3, 1)},
    choosing={1: Effort(0.1, 2, 10), 32: Effort(0.1, 10, 2)},
    calibration_faces=70,
    watch_seconds=0.2,
)


@click.command()
@click.option("--quick", is_flag=True, help="A few seconds, to see that it works; no row is worth anything.")
@click.option("--only", multiple=True, metavar="NAME", help="Measure this network (may be repeated).")
@click.option("--data", metavar="DATA", help="A data set with train and test faces: ranges and accuracies.")
@click.option("--output", type=click.Path(path_type=Path), help=f"JSON; benchmarks/results/{RESULTS.name} if absent.")
def main(quick: bool, only: tuple[str, ...], data: str | None, output: Path | None) -> None:
    """Time every engine for this CPU beside PyTorch eager and onnxruntime FP32."""
    with one_error():
        unknown = [name for name in only if name not in names()]
        if unknown:
            raise EdgeferError(f"no network is called '{unknown[0]}'", hint=f"known: {', '.join(names())}")
        path = destination(RESULTS, output, part=quick or bool(only))
        conclude({"quick": quick, **measure(QUICK if quick else FULL, only or NETWORKS, data)}, path)


def measure(plan: Plan, networks: tuple[str, ...], data: str | None) -> dict[str, Any]:
    """Everything, for JSON."""
    started = time.monotonic()
    busy = busy_before(plan.watch_seconds)
    for reason in busy:
        announce(f"warning: {reason}: the results will be marked")
    environment = describe_environment()
    measured: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        judging = data is not None or any(shipped(network_name) for network_name in networks)
        found = real_faces(data, folder) if judging else None
        real, called = (None, None) if found is None else found
        drawn = synthetic_set(plan.calibration_faces or CALIBRATION_FACES, 1, folder / "drawn.npz")
        for network_name in networks:
            network = prepare(network_name, folder, real, drawn, plan.calibration_faces)
            runs = _runs(plan, network)
            measured[network_name] = {**network.describe(), "runs": runs}
            busy += [f"{network_name}, {run['busy']}" for run in runs if run["busy"]]
    return {
        "benchmark": "cpu",
        "quiet": not busy,
        "busy": busy,
        "seconds": round(time.monotonic() - started),
        "environment": environment,
        "data": called if any(row["accuracy"] for n in measured.values() for row in n["rows"]) else None,
        "networks": measured,
    }


def _runs(plan: Plan, network: Network) -> list[dict[str, Any]]:
    """All combinations; sessions are opened once a number of threads, and the others' are closed by then."""
    runs = []
    for threads in sorted({threads for _, threads in plan.combinations}):
        with network.opened(threads) as engines:
            for batch in [batch for batch, wanted in plan.combinations if wanted == threads]:
                announce(f"{network.name}: timing batch {batch}, threads {threads}, {len(engines)} rows")
                runs.append(_run(plan, network, engines, batch, threads))
    return runs


def _run(plan: Plan, network: Network, engines: dict[str, Classifier], batch: int, threads: int) -> dict[str, Any]:
    batches = batches_of(network, batch)
    start = Usage.now()
    auto = chosen_by_auto(network, engines, batches, threads, plan.choosing[batch])
    taken = take_turns(engines, batches, threads, plan.timing[batch])
    others = others_since(start)
    references = {"over_pytorch": EAGER, "over_onnxruntime": ONNXRUNTIME}
    where = f"batch {batch}, {threads} thread{'s' if threads > 1 else ''}"
    return {
        "batch": batch,
        "threads": threads,
        "busy": f"{where}: other processes used {others:.2f} cores" if others and too_busy(others) else None,
        "others_cores": others,
        "unsettled": list(taken.unsettled),
        "rounds": len(taken.rounds_ms[EAGER]),
        "auto": auto,
        "rows": {label: figures(taken, label, batch, references) for label in engines},
    }


def chosen_by_auto(
    network: Network,
    engines: dict[str, Classifier],
    batches: list[NDArray[np.uint8]],
    threads: int,
    effort: Effort,
) -> str:
    """What `auto` takes here: the fastest engine within the tolerance on val (of all, where nothing was judged)."""
    candidates = {row.label: engines[row.label] for row in network.results}
    taken = take_turns(candidates, batches, threads, effort)
    timed = [replace(row, p50_ms=taken.latency(row.label).p50) for row in network.results]
    return next(row.label for row in choose(timed) if row.chosen)


def batches_of(network: Network, batch: int) -> list[NDArray[np.uint8]]:
    """Different synthetic faces that go round, brought to the network's shape."""
    from edgefer.faces import prepare_batch

    images, _ = synthetic_faces(TIMED_FACES, seed=2)
    faces = prepare_batch(images, network.contract)
    return [np.ascontiguousarray(faces[i : i + batch]) for i in range(0, TIMED_FACES - batch + 1, batch)]


if __name__ == "__main__":
    main()
