#!/usr/bin/env python3
"""The zoo in figures: `python benchmarks/zoo.py`; `tables.py zoo` writes the table.

It takes long: nine engines of each network are built, those of the ImageNet networks for minutes each.

Every network is exported, calibrated, built in every way for this CPU and timed at batch 1 with one thread, its engines
taking turns in one run. Where weights ship, they are judged on the test faces; the other networks get random weights,
which are good for speed and parity only.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from cpu import batches_of, chosen_by_auto
from ending import conclude, destination, one_error
from network import CALIBRATION_FACES, prepare
from sources import drawn_faces, real_faces
from turns import Effort, figures, take_turns

from edgefer.data import FaceSet
from edgefer.measure.contention import Usage, busy_before, others_since, too_busy
from edgefer.measure.environment import describe_environment
from edgefer.models import architecture, names
from edgefer.progress import announce

RESULTS = Path(__file__).resolve().parent / "results" / "zoo.json"


@dataclass(frozen=True)
class Plan:
    """How long to time a network, and its candidates for `auto` before; with ranges from how many drawn faces."""

    timing: Effort
    choosing: Effort
    faces: int
    watch_seconds: float


FULL = Plan(Effort(10.0, 15, 5), Effort(3.0, 10, 3), CALIBRATION_FACES, 2.0)
QUICK = Plan(Effort(0.1, 3, 8), Effort(0.1, 3, 8), 14, 0.2)


@click.command()
@click.option("--quick", is_flag=True, help="To see that it works; no figure is worth anything.")
@click.option("--only", multiple=True, type=click.Choice(names()), help="Measure this network (may be repeated).")
@click.option("--data", metavar="DATA", help="A data set with train and test faces, for the weights that ship.")
@click.option("--output", type=click.Path(path_type=Path), help=f"JSON; benchmarks/results/{RESULTS.name} if absent.")
def main(quick: bool, only: tuple[str, ...], data: str | None, output: Path | None) -> None:
    """Measure every network of the zoo on this CPU."""
    with one_error():
        path = destination(RESULTS, output, part=quick or bool(only))
        conclude({"quick": quick, **measure(QUICK if quick else FULL, only or names(), data)}, path)


def measure(plan: Plan, networks: tuple[str, ...], data: str | None) -> dict[str, Any]:
    """Everything, for JSON."""
    busy = busy_before(plan.watch_seconds)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        found = real_faces(data, Path(folder))
        real, called = (None, None) if found is None else found
        drawn = drawn_faces(plan.faces, 1, Path(folder) / "drawn.npz")
        for name in networks:
            start = Usage.now()
            with tempfile.TemporaryDirectory() as own:
                rows.append(_row(name, plan, Path(own), real, drawn))
            others = others_since(start)
            if others and too_busy(others):
                busy.append(f"{name}: other processes used {others:.2f} cores")
    return {
        "benchmark": "zoo",
        "quiet": not busy,
        "busy": busy,
        "environment": describe_environment(),
        "data": called,
        "networks": rows,
    }


def _row(name: str, plan: Plan, folder: Path, real: FaceSet | None, drawn: FaceSet) -> dict[str, Any]:
    """One network: what it is, what it gets and how fast its engines are."""
    known = architecture(name)
    network = prepare(name, folder, real, drawn, plan.faces if real is None else None)
    with network.opened(threads=1) as engines:
        batches = batches_of(network, 1)
        auto = chosen_by_auto(network, engines, batches, 1, plan.choosing)
        announce(f"{name}: timing {len(engines)} engines")
        taken = take_turns(engines, batches, 1, plan.timing)
        latency = {label: figures(taken, label, 1, {}) for label in engines}
    return {
        "name": name,
        "parameters": known.params[len(network.contract.labels)],
        "macs": known.macs,
        "published": known.published,
        "measured_elsewhere": known.measured,
        "weights": network.weights,
        "parity": network.parity,
        "auto": auto,
        "latency": latency,
        "accuracy": network.accuracy,
    }


if __name__ == "__main__":
    main()
