"""Results of ``edgefer.optimize``: the candidates of an automatic choice, and what INT8 costs layer by layer."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from edgefer.atomic import atomic_path, check_writable
from edgefer.errors import EdgeferError, require
from edgefer.measure.disturbance import MARK
from edgefer.optimize.sensitivity import LayerCost, Sensitivity

WIDTH_OF_A_FILE = 140
NOT_MEASURED = "–"


def print_candidates(rows: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print a line for each candidate of an automatic choice: cost, size, drop and agreement on `val`, if chosen."""
    out = _console(console)
    table = Table(box=None, pad_edge=False)
    counted = any(row.get("float_macs") is not None for row in rows)
    cost = "MMACs in float" if counted else "p50 ms"
    for heading in ("candidate", cost, "MB", "drop on val, points", "agreement", ""):
        text = heading in ("candidate", "")
        table.add_column(heading, justify="left" if text else "right", no_wrap=not text)
    for row in rows:
        value, form = (row["float_macs"], "{:.2f}") if counted else (row["p50_ms"], "{:.3f}")
        mark = MARK if row["disturbed"]["median"] else ""
        drop = NOT_MEASURED
        if row["drop_pp"] is not None and row["ci95_pp"] is not None:
            drop = "{:+.2f} [{:+.2f}, {:+.2f}]".format(row["drop_pp"], *row["ci95_pp"])
        table.add_row(
            str(row["label"]),
            NOT_MEASURED if value is None else form.format(value / 1e6) if counted else mark + form.format(value),
            f"{row['bytes'] / 1e6:.2f}",
            drop,
            NOT_MEASURED if row["agreement"] is None else f"{100 * row['agreement']:.2f} %",
            "chosen" if row["chosen"] else "" if row["within"] else "drops too much",
        )
    out.print(table)
    timed = [row["disturbed"] for row in rows if row["p50_ms"] is not None and not counted]
    for reason in dict.fromkeys(reason for marks in timed for reason in (*marks["median"], *marks["speedup"])):
        out.print(f"{MARK} disturbed: {reason}", markup=False, highlight=False, soft_wrap=True)


def _console(console: Console | None) -> Console:
    out = console or Console()
    return out if out.is_terminal else Console(file=out.file, width=WIDTH_OF_A_FILE)


def print_sensitivity(found: Sensitivity, console: Console | None = None) -> None:
    """Print a line for each layer, the costliest first, then all of them together."""
    out = _console(console)
    table = Table(box=None, pad_edge=False)
    sizes = ("output", "parameters", "MMACs")
    for heading in ("layer in INT8 alone", "", *sizes, "SQNR dB", "KL ·10⁻³", "drop on val, points", "agreement"):
        text = heading in ("layer in INT8 alone", "", "output")
        table.add_column(heading, justify="left" if text else "right", no_wrap=heading[:5] != "layer", overflow="fold")
    for cost in (*found.layers, found.whole):
        table.add_row(*_cells(cost))
    out.print(table)
    out.print(
        f"{found.model}: {found.runtime} {found.scheme}, {found.method}; {found.faces:,} faces of {found.origin}, "
        + ("without the network's labels" if found.top1 is None else f"float top-1 {100 * found.top1:.2f} %"),
        soft_wrap=True,
        highlight=False,
    )
    if found.float_layers:
        reasons = Counter(found.float_layers.values()).most_common()
        told = "; ".join(f"{count} × {reason}" for reason, count in reasons)
        many = f"{len(found.float_layers)} layer{'s' * (len(found.float_layers) > 1)}"
        out.print(f"{many} in float in any case: {told}", soft_wrap=True, highlight=False, markup=False)


def _cells(cost: LayerCost) -> tuple[str, ...]:
    drop = NOT_MEASURED
    if cost.drop_pp is not None and cost.ci95_pp is not None:
        drop = "{:+.2f} [{:+.2f}, {:+.2f}]".format(cost.drop_pp, *cost.ci95_pp)
    return (
        cost.layer,
        cost.op,
        "×".join(map(str, cost.size.shape)),
        f"{cost.size.parameters:,}",
        f"{cost.size.macs / 1e6:,.2f}",
        f"{cost.sqnr_db:.1f}",
        f"{1000 * cost.kl:.3f}",
        drop,
        f"{100 * cost.agreement:.2f} %",
    )


def check_picture(path: str | os.PathLike[str]) -> None:
    """Refuse what :func:`draw_sensitivity` could not write, before anything is measured.

    Raises:
        EdgeferError: the path does not end in .png or cannot be written, or matplotlib is not installed.
    """
    if not os.fspath(path).endswith(".png"):
        raise EdgeferError(f"the picture is a PNG, and {os.fspath(path)} does not end in .png", hint="--png layers.png")
    require("matplotlib", "plots", "drawing the sensitivity of layers")
    check_writable(path)


def draw_sensitivity(found: Sensitivity, path: str | os.PathLike[str]) -> None:
    """Write a PNG: a bar for each layer (KL divergence), beside it its accuracy drop where the faces have labels.

    Raises:
        EdgeferError: as :func:`check_picture`.
    """
    check_picture(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = (*found.layers, found.whole)
    figure = Figure(figsize=(10, 1.7 + 0.24 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2)) if found.top1 is not None else [figure.subplots()]
    left, right = axes[0], axes[1] if len(axes) == 2 else None
    places = list(range(len(rows), 0, -1))
    colours = ["tab:blue"] * len(found.layers) + ["dimgrey"]
    _draw_divergence(left, rows, places, colours)
    left.set_ylim(0.3, len(rows) + 0.7)
    if right is not None:
        for place, cost, colour in zip(places, rows, colours, strict=True):
            if cost.drop_pp is not None and cost.ci95_pp is not None:
                right.plot([*cost.ci95_pp], [place, place], color=colour, linewidth=1.5)
                right.plot([cost.drop_pp], [place], "o", color=colour, markersize=4)
        right.axvline(0, color="grey", linewidth=0.8)
        right.set_xlabel(f"accuracy lost on {found.faces:,} faces, points of top-1 (95 %)")
    how = f"{found.runtime} {found.scheme}, {found.method}"
    figure.suptitle(f"{os.path.basename(found.model)}: one layer in INT8 at a time ({how})", fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _draw_divergence(axes: Any, rows: Sequence[LayerCost], places: Sequence[int], colours: Sequence[str]) -> None:
    """One bar per row, with its number. The axis ends behind the costliest layer; the last row's bar may run beyond."""
    values = [1000 * cost.kl for cost in rows]
    end = 1.2 * max(*values[:-1], 1e-6)
    axes.barh(places, values, color=colours)
    for place, value in zip(places, values, strict=True):
        inside = value > end
        axes.text(
            *(end if inside else value, place, f"{value:.3f} → " if inside else f" {value:.3f}"),
            ha="right" if inside else "left",
            va="center",
            fontsize=7,
            color="white" if inside else "black",
        )
    axes.set_xlim(0, end)
    axes.set_yticks(places, [_called(cost) for cost in rows])
    axes.set_xlabel("KL divergence from float's answers, 10⁻³ nats")


def _called(cost: LayerCost) -> str:
    """The layer's name, and its kind where the name does not tell."""
    return cost.layer if not cost.op or cost.layer.startswith(cost.op) else f"{cost.layer} ({cost.op})"
