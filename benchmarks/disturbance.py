#!/usr/bin/env python3
"""What a load beside a benchmark does to its figures: `python benchmarks/disturbance.py`, about nine minutes.

A process computes for a share of each tenth of a second, as a browser or a player does, while engines take turns as in
`edgefer bench`. Loads of 0, 0.1, 0.3 and 1 core take turns too, in a shuffled order, so that what else drifts hits
all of them alike: each repetition compares a figure under a load with the same figure under none, seconds apart. What
comes out is by how much a median, a p95 and a speed-up of INT8 over FP32 move, beside which of them
`edgefer.measure.disturbance` marks.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import common
import numpy as np

from edgefer import build_engine
from edgefer.data import synthetic_faces
from edgefer.engines.classifier import Classifier
from edgefer.engines.load import load_engine
from edgefer.faces import prepare_batch
from edgefer.graph.export import export
from edgefer.measure.disturbance import LoadMeter, OtherLoad, hit_by
from edgefer.measure.environment import available_cores
from edgefer.optimize.settings import BuildTarget, Quantisation
from edgefer.progress import announce

LOADS = (0.0, 0.1, 0.3, 1.0)
THREADS = (1, 2)
NETWORKS = ("mini_xception", "resnet11")
FIGURES = ("median", "tail", "speedup")
HARMLESS = 0.05
"""Change of a figure that may stand unmarked: what a gate allows a median by default."""
NOTABLE_CORES = 0.05
"""Load that somebody else may have added to a repetition."""
_PERIOD = 0.1  # seconds
_START = 0.4  # seconds until the load's own interpreter has started
_LOAD = """
import os, sys, time
share, period, owner = float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
while os.path.exists(f"/proc/{owner}"):
    start = time.monotonic()
    while time.monotonic() < start + share * period:
        pass
    time.sleep(max(0.0, start + period - time.monotonic()))
"""


@dataclass(frozen=True)
class Plan:
    """Repetitions of each load and thread count, and seconds of each for one network."""

    repetitions: int
    seconds: float
    loads: tuple[float, ...] = LOADS
    networks: tuple[str, ...] = NETWORKS


FULL = Plan(12, 1.5)
QUICK = Plan(2, 0.2, (0.0, 1.0), NETWORKS[:1])


@click.command()
@common.options("disturbance")
def main(quick: bool, output: Path | None) -> None:
    """Measure what a load beside a benchmark does to each kind of figure."""
    plan = QUICK if quick else FULL
    common.run("disturbance", quick, output, lambda watch: measure(plan, watch))


def measure(plan: Plan, watch: common.Watch) -> dict[str, Any]:
    """Every load beside every network, on each number of threads that there are cores for."""
    threads = [count for count in THREADS if count <= available_cores()]
    with tempfile.TemporaryDirectory() as name:
        files = {network: _built(network, Path(name)) for network in plan.networks}
        rows = [row for count in threads for row in _measured(files, count, plan, watch)]
    return {"rows": rows, "demands": _demands(rows), "repetitions": plan.repetitions, "seconds_each": plan.seconds}


def _built(network: str, folder: Path) -> dict[str, Path]:
    """FP32 and INT8 for onnxruntime, with random weights: speed does not depend on them."""
    announce(f"{network}: exporting and building")
    model = folder / f"{network}.onnx"
    export(network, model, random_weights=True)
    faces = common.synthetic_set(70, folder / "synthetic.npz")
    target = BuildTarget("cpu", "onnxruntime")
    files = {}
    for precision, given in (("fp32", None), ("int8", Quantisation(faces, faces=70, method="minmax"))):
        files[precision] = folder / f"{network}.{precision}.onnx"
        build_engine(model, files[precision], precision=precision, quantisation=given, target=target)
    return files


def _measured(
    files: Mapping[str, Mapping[str, Path]], threads: int, plan: Plan, watch: common.Watch
) -> Iterator[dict[str, Any]]:
    """A row for each network and load: by how much each figure moved, repetition by repetition."""
    shuffler = random.Random(threads)
    figures: dict[tuple[str, float], list[dict[str, float]]] = {}
    seen: dict[float, list[float]] = {load: [] for load in plan.loads}
    with ExitStack() as opened:
        engines = {
            network: {name: opened.enter_context(load_engine(file, threads)) for name, file in both.items()}
            for network, both in files.items()
        }
        for done in range(plan.repetitions):
            announce(f"{threads} threads: repetition {done + 1} of {plan.repetitions}")
            for load in shuffler.sample(plan.loads, len(plan.loads)):
                with beside(load):
                    meter = LoadMeter()
                    for network, both in engines.items():
                        figures.setdefault((network, load), []).append(_figures(both, threads, plan.seconds))
                    found = meter.read()
                if found is not None:
                    seen[load].append(found.cores)
                    if found.cores > load + NOTABLE_CORES:
                        watch.busy.append(f"{threads} threads, load {load}: {found.sentence()}")
    for network in files:
        quiet = figures[network, 0.0]
        for load in plan.loads:
            marked = hit_by(OtherLoad(load, available_cores()), threads)
            measured = {
                figure: _change([now[figure] / then[figure] for now, then in zip(loaded, quiet, strict=True)])
                for loaded in (figures[network, load],)
                for figure in FIGURES
            }
            yield {
                "network": network,
                "threads": threads,
                "load": load,
                "seen": float(np.median(seen[load])) if seen[load] else None,
                "crowding": OtherLoad(load, available_cores()).crowding(threads),
                "change": measured,
                "marked": [figure for figure in FIGURES if getattr(marked, figure)],
                "speedup": float(np.median([found["speedup"] for found in figures[network, load]])),
            }


def _figures(engines: Mapping[str, Classifier], threads: int, seconds: float) -> dict[str, float]:
    contract = engines["fp32"].contract
    faces = prepare_batch(synthetic_faces(16, seed=2)[0], contract)
    batches = [np.ascontiguousarray(faces[i : i + 1]) for i in range(len(faces))]
    taken = common.take_turns(engines, batches, threads, common.Effort(seconds, 10, 5))
    int8 = taken.rounds_ms["int8"]
    return {
        "median": float(np.median(int8)),
        "tail": float(np.percentile(int8, 95)),
        "speedup": float(np.median(taken.rounds_ms["fp32"]) / np.median(int8)),
    }


def _change(ratios: Sequence[float]) -> dict[str, Any]:
    """The median of the repetitions' ratios, with a bootstrap interval over repetitions."""
    values, generator = np.array(ratios), np.random.default_rng(0)
    medians = np.median(generator.choice(values, (1000, len(values))), axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    return {"value": float(np.median(values)), "ci95": [float(low), float(high)]}


@contextmanager
def beside(load: float) -> Iterator[None]:
    """A process that uses ``load`` of a core during the block.

    A shell starts it and ends, so that it is nobody's child: children count as this benchmark's own work.
    """
    if not load:
        time.sleep(_START)
        yield
        return
    command = 'nohup "$0" -c "$1" "$2" "$3" "$4" >/dev/null 2>&1 & echo $!'
    given = [sys.executable, _LOAD, str(load), str(_PERIOD), str(os.getpid())]
    pid = int(common.call("starting the load", ["/bin/sh", "-c", command, *given]))
    try:
        time.sleep(_START)
        yield
    finally:
        os.kill(pid, signal.SIGTERM)


def _demands(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What is not marked has moved by no more than :data:`HARMLESS`."""
    demands = []
    for figure in FIGURES:
        moved = [(abs(row["change"][figure]["value"] - 1), row) for row in rows if figure not in row["marked"]]
        worst, row = max(moved, key=lambda found: found[0])
        demands.append(
            {
                "demand": f"{figure}, where it is not marked: moved by at most {HARMLESS:.0%}",
                "measured": f"{worst:.1%} ({row['network']}, {row['threads']} threads, load {row['load']:g})",
                "passed": worst <= HARMLESS,
            }
        )
    return demands


def page(result: dict[str, Any]) -> str:
    """A line for each network, thread count and load; what the rule marks stands after a ~."""
    names = {"median": "median", "tail": "p95", "speedup": "speed-up"}
    lines = []
    for row in result["rows"]:
        cells = []
        for figure in FIGURES:
            value, (low, high) = row["change"][figure]["value"], row["change"][figure]["ci95"]
            mark = "~" if figure in row["marked"] else ""
            cells.append(f"{mark}{100 * (value - 1):+.1f} [{100 * (low - 1):+.1f}, {100 * (high - 1):+.1f}]")
        share = f"{row['crowding']:.0%}"
        lines.append([row["network"], str(row["threads"]), f"{row['load']:g}", share, *cells])
    demands = [f"- {d['demand']}: {d['measured']}{'' if d['passed'] else ' (missed)'}" for d in result["demands"]]
    heads = ["", "threads", "load, cores", "meets calls", *(f"{names[figure]}, %" for figure in FIGURES)]
    about = result["environment"]
    parts = [
        f"By how much a load beside the run moves figures of INT8 in onnxruntime (batch 1): {about['cpu']}, "
        f"{about['cores']} cores; medians of {result['repetitions']} repetitions with 95 % intervals, each against the "
        "same figure without a load, seconds apart. A `~` stands where the rule marks it.",
        *common.busy_mark(result),
        common.table(heads, lines),
        "\n".join(demands),
        "Measured by `python benchmarks/disturbance.py`.",
    ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
