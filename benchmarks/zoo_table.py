"""The zoo's figures as Markdown."""

from __future__ import annotations

from typing import Any

from cpu_table import EAGER, ONNXRUNTIME, UNKNOWN, number


def zoo_table(result: dict[str, Any]) -> str:
    """A network a row; the quickest INT8 engine stands for INT8."""
    environment = result["environment"]
    parts = [
        f"{environment['cpu']}, batch 1, one thread, median ms; INT8 is the quickest INT8 engine. Top-1 and macro-F1, "
        f"drop (points of top-1) and agreement: of the weights that ship, on {result['data'] or 'no'} test faces, with "
        "95 % intervals. Parity: largest difference of a logit of the exported file from PyTorch. The other networks "
        "have random weights here: no accuracy."
    ]
    parts += [] if result["quiet"] else ["**Measured on a busy machine: milliseconds are not to be believed.**"]
    head = ["network", "parameters", "MACs", "published", "top-1", "macro-F1", "parity"]
    head += ["FP32, ms", "INT8, ms", "auto, ms", "auto takes", "INT8 drop", "agreement"]
    lines = [head, [":--"] + ["--:"] * (len(head) - 1), *(_cells(row) for row in result["networks"])]
    parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts)


def _cells(row: dict[str, Any]) -> list[str]:
    latency, accuracy = row["latency"], row["accuracy"]
    integers = [label for label in latency if "INT8" in label]
    int8 = min(integers, key=lambda label: latency[label]["p50_ms"])
    cells = [row["name"], f"{row['parameters']:,}", f"{row['macs'] / 1e6:,.1f} M", row["published"] or UNKNOWN]
    if accuracy:
        eager, low, high = accuracy[EAGER], *(100 * end for end in accuracy[EAGER]["top1_ci95"])
        cells += [f"{100 * eager['top1']:.1f} % [{low:.1f}, {high:.1f}]", f"{100 * eager['macro_f1']:.1f} %"]
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
