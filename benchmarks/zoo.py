#!/usr/bin/env python3
"""The zoo in figures and as the README's table: `python benchmarks/zoo.py` measures and writes both.

Every network is exported, calibrated, built in every way for this CPU and judged on the test faces, which takes an hour
or so. Then it waits until nothing else uses the machine, and times them at batch 1 with one thread, a network's engines
taking turns in one run. Networks without weights, shipped or in --weights, get random ones, which are good for speed
and parity only.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from cpu import batches_of, chosen_by_auto
from ending import conclude, destination, one_error
from network import Network, prepare
from sources import real_faces, synthetic_set
from tables import put_on_page
from turns import Effort, figures, take_turns

from edgefer.errors import EdgeferError
from edgefer.measure.environment import Usage, describe_environment, others_since, too_busy
from edgefer.models import architecture, names
from edgefer.progress import announce

RESULTS = Path(__file__).resolve().parent / "results" / "zoo.json"


@dataclass(frozen=True)
class Plan:
    """How long to time a network, and its candidates for `auto` before, and how long to wait for a quiet machine.

    Random weights get their ranges from ``drawn`` faces.
    """

    timing: Effort
    choosing: Effort
    drawn: int
    watch_seconds: float
    wait_seconds: float


FULL = Plan(Effort(10.0, 15, 5), Effort(3.0, 10, 3), 42, 3.0, 900.0)
QUICK = Plan(Effort(0.1, 3, 8), Effort(0.1, 3, 8), 14, 0.2, 0.0)


@click.command()
@click.option("--quick", is_flag=True, help="To see that it works; no figure is worth anything.")
@click.option("--only", multiple=True, type=click.Choice(names()), help="Measure this network (may be repeated).")
@click.option("--data", metavar="DATA", help="A data set with train and test faces, for networks that have weights.")
@click.option("--weights", type=click.Path(path_type=Path), help="A folder of NAME.safetensors that do not ship.")
@click.option("--output", type=click.Path(path_type=Path), help=f"JSON; benchmarks/results/{RESULTS.name} if absent.")
def main(quick: bool, only: tuple[str, ...], data: str | None, weights: Path | None, output: Path | None) -> None:
    """Measure every network of the zoo on this CPU."""
    with one_error():
        path = destination(RESULTS, output, part=quick or bool(only))
        files = _files(weights)
        result = {"quick": quick, **measure(QUICK if quick else FULL, only or names(), data, files)}
        conclude(result, path)
        if output is None:
            put_on_page("zoo", result)


def _files(folder: Path | None) -> dict[str, Path]:
    """Network → its weights in ``folder``."""
    files = sorted(folder.glob("*.safetensors")) if folder is not None else []
    unknown = [file for file in files if file.stem not in names()]
    if (folder is not None and not files) or unknown:
        fault = f"no network is called {unknown[0].stem}" if unknown else "there are none"
        raise EdgeferError(f"weights of {folder}: {fault}", hint="NAME.safetensors, NAME as in `edgefer models`")
    return {file.stem: file for file in files}


def measure(plan: Plan, networks: tuple[str, ...], data: str | None, files: dict[str, Path]) -> dict[str, Any]:
    """Everything, for JSON."""
    with tempfile.TemporaryDirectory() as folder:
        found = real_faces(data, Path(folder))
        real, called = (None, None) if found is None else found
        drawn = synthetic_set(plan.drawn, 1, Path(folder) / "drawn.npz")
        fit_faces = None if real is None else len(real.split("fit"))
        ready = [prepare(name, Path(folder), real, drawn, None, files.get(name)) for name in networks]
    busy = _wait_until_quiet(plan)
    rows = []
    for network in ready:
        start = Usage.now()
        rows.append(_row(network, plan))
        others = others_since(start)
        if others and too_busy(others):
            busy.append(f"{network.name}: other processes used {others:.2f} cores")
    return {
        "benchmark": "zoo",
        "quiet": not busy,
        "busy": busy,
        "environment": describe_environment(),
        "data": called,
        "fit_faces": fit_faces,
        "networks": rows,
    }


def _wait_until_quiet(plan: Plan) -> list[str]:
    """Until other processes leave the processor alone, or the plan's patience ends: what they used then."""
    announce("timing begins as soon as the machine is quiet")
    until = time.monotonic() + plan.wait_seconds
    while True:
        start = Usage.now()
        time.sleep(plan.watch_seconds)
        others = others_since(start)
        if not too_busy(others):
            return []
        if time.monotonic() >= until:
            return [f"other processes used {others:.2f} cores before the timing"]


def _row(network: Network, plan: Plan) -> dict[str, Any]:
    """One network: what it is, what it gets and how fast its engines are."""
    known = architecture(network.name)
    with network.opened(threads=1) as engines:
        batches = batches_of(network, 1)
        auto = chosen_by_auto(network, engines, batches, 1, plan.choosing)
        announce(f"{network.name}: timing {len(engines)} engines")
        taken = take_turns(engines, batches, 1, plan.timing)
        latency = {label: figures(taken, label, 1, {}) for label in engines}
    return {
        "name": network.name,
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
