"""The CPU benchmark as Markdown, and how numbers and ratios are written in every table."""

from __future__ import annotations

from typing import Any

from edgefer.runtimes import CPU, PYTORCH, for_target

EAGER, ONNXRUNTIME = "PyTorch eager", "onnxruntime FP32"
UNKNOWN = "–"


def cpu_table(result: dict[str, Any]) -> str:
    """A section a network; speed-ups are those of batch 1 with one thread."""
    parts = [_where(result)]
    for name, network in result["networks"].items():
        parts += [f"#### {name}", _network_table(network), _auto_note(network)]
    return "\n\n".join(parts)


def _where(result: dict[str, Any]) -> str:
    environment = result["environment"]
    packages = [name for row in (PYTORCH, *for_target(CPU).values()) for name in row.distributions]
    versions = ", ".join(f"{k} {environment['packages'][k]}" for k in packages if k in environment["packages"])
    lines = [
        f"{environment['cpu']}, {environment['cores']} cores, {environment['os']}; {versions}. Batch 1: median ms of a "
        "call. Batch 32: faces a second. t: threads. Speed-ups: batch 1, one thread, with 95 % intervals."
    ]
    if result["data"]:
        lines.append(
            "Drop (points of top-1, with 95 % interval) and agreement: against PyTorch, on the test faces of "
            f"{result['data']}."
        )
    if not result["quiet"]:
        lines.append("**Measured on a busy machine: not to be believed.**")
    return " ".join(lines)


def _network_table(network: dict[str, Any]) -> str:
    runs = {(run["batch"], run["threads"]): run for run in network["runs"]}
    judged = any(row["accuracy"] for row in network["rows"])
    head = ["", *(_heading(*key) for key in sorted(runs)), "over PyTorch", "over onnxruntime FP32", "MB"]
    rows = [
        _cells(row["label"], row, {key: run["rows"][row["label"]] for key, run in runs.items()}, judged)
        for row in network["rows"]
    ]
    described = {row["label"]: row for row in network["rows"]}
    chosen = {key: run["rows"][run["auto"]] for key, run in runs.items()}
    rows.append(_cells("**auto**", described[runs[_first(runs)]["auto"]], chosen, judged))
    head += ["drop", "agreement"] if judged else []
    ruler = [":--"] + ["--:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ruler, *rows))


def _heading(batch: int, threads: int) -> str:
    return f"batch {batch}, {threads} t, {'ms' if batch == 1 else 'faces/s'}"


def _first(runs: dict[tuple[int, int], Any]) -> tuple[int, int]:
    """The run that speed-ups are taken from."""
    return min(runs)


def _cells(label: str, row: dict[str, Any], taken: dict[tuple[int, int], dict[str, Any]], judged: bool) -> list[str]:
    cells = [label]
    for batch, threads in sorted(taken):
        figures = taken[batch, threads]
        cells.append(number(figures["p50_ms"] if batch == 1 else figures["images_per_s"]))
    first = taken[_first(taken)]
    cells += [
        ratio(first[key], row["label"], itself)
        for key, itself in (("over_pytorch", EAGER), ("over_onnxruntime", ONNXRUNTIME))
    ]
    cells.append(number(row["bytes"] / 1e6))
    if judged:
        accuracy = row["accuracy"]
        if accuracy is None or label == EAGER:
            cells += [f"top-1 {100 * accuracy['top1']:.2f} %" if accuracy else UNKNOWN, UNKNOWN]
        else:
            low, high = accuracy["ci95_pp"]
            cells += [f"{accuracy['drop_pp']:.2f} [{low:.2f}, {high:.2f}]", f"{100 * accuracy['agreement']:.2f} %"]
    return cells


def ratio(ratio: dict[str, Any], label: str, itself: str) -> str:
    if label == itself:
        return "1"
    low, high = ratio["ci95"]
    return f"{ratio['value']:.2f} [{low:.2f}, {high:.2f}]"


def number(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    digits = 0 if value >= 100 else 1 if value >= 20 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f}"


def _auto_note(network: dict[str, Any]) -> str:
    took: dict[str, list[str]] = {}
    for run in sorted(network["runs"], key=lambda run: (run["batch"], run["threads"])):
        took.setdefault(run["auto"], []).append(f"batch {run['batch']} with {run['threads']} t")
    if len(took) == 1:
        choice = f"`auto` takes {next(iter(took))} throughout."
    else:
        choice = "`auto` takes " + "; ".join(f"{label} for {', '.join(where)}" for label, where in took.items()) + "."
    random = " Random weights: speed only." if network["weights"] == "random" else ""
    return choice + random
