#!/usr/bin/env python3
"""The zoo's results and the table of docs/zoo.md: `python benchmarks/zoo.py` measures and writes both.

Every network is exported, calibrated, built in every way for this CPU and evaluated on the test faces, which takes an
hour or so. Then it waits until nothing else uses the machine, and times them at batch 1 with one thread, a network's
engines taking turns in one run. Networks without weights, shipped or in --weights, get random ones, which are good for
speed and parity only.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import common
from cpu import EAGER, ONNXRUNTIME, Network, batches_of, chosen_by_auto, prepare, row_of
from tables import put_on_page

from edgefer.errors import EdgeferError
from edgefer.measure.disturbance import LoadMeter, too_busy
from edgefer.models import architecture, names
from edgefer.progress import announce

WHY = (
    "Ours learns from {fit:,} fit faces: of FER2013's training part a tenth chooses the epoch, a twentieth sets INT8's "
    "ranges, and faces without a label, or with a copy in the test, are left out (the model cards have top-1 on those "
    "copies). The published trainings are not known to keep any of these back, nor to choose nothing by the test."
)
"""What is known to be different where a network falls short of its published figure."""


@dataclass(frozen=True)
class Plan:
    """How long to time a network, and its candidates for `auto` before, and how long to wait for a quiet machine.

    Random weights get their ranges from ``synthetic`` faces.
    """

    timing: common.Effort
    choosing: common.Effort
    synthetic: int
    watch_seconds: float
    wait_seconds: float


FULL = Plan(common.Effort(10.0, 15, 5), common.Effort(3.0, 10, 3), 42, 3.0, 900.0)
QUICK = Plan(common.Effort(0.1, 3, 8), common.Effort(0.1, 3, 8), 14, 0.2, 0.0)


@click.command()
@common.options("zoo")
@click.option("--only", multiple=True, type=click.Choice(names()), help="Measure this network (may be repeated).")
@click.option("--data", metavar="DATA", help="A data set with train and test faces, for networks that have weights.")
@click.option("--weights", type=click.Path(path_type=Path), help="A folder of NAME.safetensors that do not ship.")
def main(quick: bool, only: tuple[str, ...], data: str | None, weights: Path | None, output: Path | None) -> None:
    """Measure every network of the zoo on this CPU."""
    plan, networks = QUICK if quick else FULL, only or names()
    with common.one_error():
        files = _files(weights)
    result = common.run(
        "zoo",
        quick,
        output,
        lambda watch: measure(plan, networks, data, files, watch),
        part=bool(only),
        watch_first=False,
    )
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


def measure(
    plan: Plan, networks: tuple[str, ...], data: str | None, files: dict[str, Path], watch: common.Watch
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        real, called = common.real_faces(data, Path(folder)) or (None, None)
        synthetic = common.synthetic_set(plan.synthetic, Path(folder) / "synthetic.npz")
        fit_faces = None if real is None else len(real.split("fit"))
        ready = [prepare(name, Path(folder), real, synthetic, None, files.get(name)) for name in networks]
    watch.busy += _wait_until_quiet(plan)
    rows = []
    for network in ready:
        with watch.over(network.name):
            rows.append(_row(network, plan))
    return {"data": called, "fit_faces": fit_faces, "networks": rows}


def _wait_until_quiet(plan: Plan) -> list[str]:
    """Until other processes leave the processor alone, or the plan's patience ends: what they used then."""
    announce("timing begins as soon as the machine is quiet")
    until = time.monotonic() + plan.wait_seconds
    while True:
        meter = LoadMeter()
        time.sleep(plan.watch_seconds)
        load = meter.read()
        if load is None or not too_busy(load):
            return []
        if time.monotonic() >= until:
            return [f"{load.sentence()} before the timing"]


def _row(network: Network, plan: Plan) -> dict[str, Any]:
    """One network: what it is, what it gets and how fast its engines are."""
    known = architecture(network.name)
    with network.opened(threads=1) as engines:
        batches = batches_of(network, 1)
        auto = chosen_by_auto(network, engines, batches, 1, plan.choosing)
        announce(f"{network.name}: timing {len(engines)} engines")
        taken = common.take_turns(engines, batches, 1, plan.timing)
        latency = {label: row_of(taken, label, 1, {}) for label in engines}
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


def page(result: dict[str, Any]) -> str:
    """A row per network; the quickest INT8 engine stands for INT8."""
    environment, networks = result["environment"], result["networks"]
    parts = [
        f"{environment['cpu']}, batch 1, one thread, median ms; INT8 is the quickest INT8 engine. Top-1 and macro-F1, "
        f"drop (points of top-1) and agreement: on {result['data'] or 'no'} test faces, with 95 % intervals (Wilson, "
        "bootstrap, Tango); agreement and drop are from PyTorch. Parity: largest difference of a logit of the exported "
        "file from PyTorch. Networks without accuracies have random weights here; their recipes say why."
    ]
    if any(_own(row) for row in networks):
        parts[0] += " \\*: weights by the network's recipe that do not ship."
    parts += common.busy_mark(result, "milliseconds are ")
    head = ["network", "parameters", "MACs", "published", "top-1", "macro-F1", "parity"]
    head += ["FP32, ms", "INT8, ms", "auto, ms", "auto takes", "INT8 drop", "agreement"]
    parts.append(common.table(head, [_cells(row) for row in networks]))
    evaluated = [row for row in networks if row["accuracy"]] if "FER2013" in (result["data"] or "").upper() else []
    short = [said for row in evaluated if (said := _shortfall(row))]
    if short:
        parts.append(f"Short of the published figure: {'; '.join(short)}. {WHY.format(fit=result['fit_faces'])}")
    return "\n\n".join(parts)


def figures(result: dict[str, Any]) -> str:
    """The file that `edgefer models` reads its milliseconds from: a part of the results, as JSON."""
    environment = result["environment"]
    packages = environment["packages"]
    content = {
        "benchmark": "benchmarks/zoo.py",
        "machine": f"{environment['cpu']}, {environment['cores']} cores, {environment['os'].split(',')[0]}",
        "instruction_set": environment["instruction_set"],
        "packages": {name: packages[name] for name in ("edgefer", "onnxruntime", "openvino") if name in packages},
        "conditions": "batch 1, one thread, median; INT8 is the quickest INT8 engine",
        "quiet": result["quiet"],
        "networks": {
            row["name"]: {
                "fp32_ms": row["latency"][ONNXRUNTIME]["p50_ms"],
                "int8_ms": row["latency"][_quickest_int8(row)]["p50_ms"],
                "int8_engine": _quickest_int8(row),
            }
            for row in result["networks"]
        },
    }
    return json.dumps(content, indent=1) + "\n"


def _quickest_int8(row: dict[str, Any]) -> str:
    latency = row["latency"]
    return str(min((label for label in latency if "INT8" in label), key=lambda label: latency[label]["p50_ms"]))


def _own(row: dict[str, Any]) -> bool:
    return bool(row["weights"].startswith("by its recipe"))


def _shortfall(row: dict[str, Any]) -> str:
    """How far top-1 is below the best figure published on FER2013; empty if it is not, or there is none."""
    numbers = re.findall(r"(\d+(?:\.\d+)?) %", row["published"]) if "FER2013" in row["published"] else []
    best, quality = max(map(float, numbers), default=0.0), row["accuracy"][EAGER]
    top1, high = 100 * quality["top1"], 100 * quality["top1_ci95"][1]
    if top1 >= best:
        return ""
    doubt = ", which is within its interval" if high >= best else ""
    return f"{row['name']} by {best - top1:.1f} points ({top1:.1f} % of {best:g} %{doubt})"


def _cells(row: dict[str, Any]) -> list[str]:
    latency, accuracy = row["latency"], row["accuracy"]
    int8 = _quickest_int8(row)
    cells = [row["name"] + ("\\*" if _own(row) else ""), f"{row['parameters']:,}", f"{row['macs'] / 1e6:,.1f} M"]
    cells.append(row["published"] or common.UNKNOWN)
    if accuracy:
        eager = accuracy[EAGER]
        cells += [_share(eager["top1"], eager["top1_ci95"]), _share(eager["macro_f1"], eager["macro_f1_ci95"])]
    else:
        cells += [common.UNKNOWN, common.UNKNOWN]
    cells.append(f"{row['parity']:.0e}")
    cells += [common.number(latency[label]["p50_ms"]) for label in (ONNXRUNTIME, int8, row["auto"])]
    cells.append(row["auto"])
    if not accuracy:
        return [*cells, common.UNKNOWN, common.UNKNOWN]
    low, high = accuracy[int8]["ci95_pp"]
    drop = f"{accuracy[int8]['drop_pp']:+.2f} [{low:+.2f}, {high:+.2f}]"
    return [*cells, drop, f"{100 * accuracy[int8]['agreement']:.1f} %"]


def _share(value: float, interval: list[float]) -> str:
    low, high = (100 * end for end in interval)
    return f"{100 * value:.1f} % [{low:.1f}, {high:.1f}]"


if __name__ == "__main__":
    main()
