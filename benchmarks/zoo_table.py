"""The zoo's figures as Markdown."""

from __future__ import annotations

import re
from typing import Any

from cpu_table import EAGER, ONNXRUNTIME, UNKNOWN, number

WHY = (
    "Ours learns from {fit:,} fit faces: of FER2013's training part a tenth chooses the epoch, a twentieth sets INT8's "
    "ranges, and faces without a label, or with a copy in the test, are left out (the model cards have top-1 on those "
    "copies). The published trainings are not known to keep any of these back, nor to choose nothing by the test."
)
"""What is known to be different where a network falls short of its published figure."""


def zoo_table(result: dict[str, Any]) -> str:
    """A network a row; the quickest INT8 engine stands for INT8."""
    environment, networks = result["environment"], result["networks"]
    parts = [
        f"{environment['cpu']}, batch 1, one thread, median ms; INT8 is the quickest INT8 engine. Top-1 and macro-F1, "
        f"drop (points of top-1) and agreement: on {result['data'] or 'no'} test faces, with 95 % intervals (Wilson, "
        "bootstrap, Tango); agreement and drop are from PyTorch. Parity: largest difference of a logit of the exported "
        "file from PyTorch. Networks without accuracies have random weights here; their recipes say why."
    ]
    if any(_own(row) for row in networks):
        parts[0] += " \\*: weights by the network's recipe that do not ship."
    parts += [] if result["quiet"] else ["**Measured on a busy machine: milliseconds are not to be believed.**"]
    head = ["network", "parameters", "MACs", "published", "top-1", "macro-F1", "parity"]
    head += ["FP32, ms", "INT8, ms", "auto, ms", "auto takes", "INT8 drop", "agreement"]
    lines = [head, [":--"] + ["--:"] * (len(head) - 1), *(_cells(row) for row in networks)]
    parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    judged = [row for row in networks if row["accuracy"]] if "FER2013" in (result["data"] or "").upper() else []
    short = [said for row in judged if (said := _shortfall(row))]
    if short:
        parts.append(f"Short of the published figure: {'; '.join(short)}. {WHY.format(fit=result['fit_faces'])}")
    return "\n\n".join(parts)


def _own(row: dict[str, Any]) -> bool:
    return bool(row["weights"].startswith("by its recipe"))


def _shortfall(row: dict[str, Any]) -> str:
    """How far top-1 is below the best figure published on FER2013; empty if it is not, or there is none."""
    figures = re.findall(r"(\d+(?:\.\d+)?) %", row["published"]) if "FER2013" in row["published"] else []
    best, quality = max(map(float, figures), default=0.0), row["accuracy"][EAGER]
    top1, high = 100 * quality["top1"], 100 * quality["top1_ci95"][1]
    if top1 >= best:
        return ""
    doubt = ", which is within its interval" if high >= best else ""
    return f"{row['name']} by {best - top1:.1f} points ({top1:.1f} % of {best:g} %{doubt})"


def _cells(row: dict[str, Any]) -> list[str]:
    latency, accuracy = row["latency"], row["accuracy"]
    integers = [label for label in latency if "INT8" in label]
    int8 = min(integers, key=lambda label: latency[label]["p50_ms"])
    cells = [row["name"] + ("\\*" if _own(row) else ""), f"{row['parameters']:,}", f"{row['macs'] / 1e6:,.1f} M"]
    cells.append(row["published"] or UNKNOWN)
    if accuracy:
        eager = accuracy[EAGER]
        cells += [_share(eager["top1"], eager["top1_ci95"]), _share(eager["macro_f1"], eager["macro_f1_ci95"])]
    else:
        cells += [UNKNOWN, UNKNOWN]
    cells.append(f"{row['parity']:.0e}")
    cells += [number(latency[label]["p50_ms"]) for label in (ONNXRUNTIME, int8, row["auto"])]
    cells.append(row["auto"])
    if not accuracy:
        return [*cells, UNKNOWN, UNKNOWN]
    low, high = accuracy[int8]["ci95_pp"]
    drop = f"{accuracy[int8]['drop_pp']:+.2f} [{low:+.2f}, {high:+.2f}]"
    return [*cells, drop, f"{100 * accuracy[int8]['agreement']:.1f} %"]


def _share(value: float, interval: list[float]) -> str:
    low, high = (100 * end for end in interval)
    return f"{100 * value:.1f} % [{low:.1f}, {high:.1f}]"
