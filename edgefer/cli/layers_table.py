"""A :class:`~edgefer.optimize.sensitivity.Sensitivity` as a table and as a picture."""

from __future__ import annotations

import os

from rich.console import Console
from rich.table import Table

from edgefer.atomic import atomic_path
from edgefer.errors import EdgeferError, require
from edgefer.optimize.sensitivity import LayerCost, Sensitivity

WIDTH_OF_A_FILE = 110


def print_sensitivity(found: Sensitivity, console: Console | None = None) -> None:
    """Print a line a layer, the costliest first, then all of them together."""
    out = console or Console()
    if not out.is_terminal:
        out = Console(file=out.file, width=WIDTH_OF_A_FILE)
    table = Table(box=None, pad_edge=False)
    for heading in ("layer in INT8 alone", "", "SQNR dB", "KL ·10⁻³", "drop on val, points", "agreement"):
        text = heading in ("layer in INT8 alone", "")
        table.add_column(heading, justify="left" if text else "right", no_wrap=not text)
    for cost in (*found.layers, found.whole):
        table.add_row(*_cells(cost))
    out.print(table)
    out.print(
        f"{found.model}: {found.runtime} {found.flavour}, {found.method}; {found.faces:,} faces of {found.origin}, "
        f"float top-1 {100 * found.top1:.2f} %",
        soft_wrap=True,
        highlight=False,
    )
    for layer, reason in found.float_layers.items():
        out.print(f"float in any case: {layer}: {reason}", soft_wrap=True, highlight=False, markup=False)


def _cells(cost: LayerCost) -> tuple[str, ...]:
    low, high = cost.ci95_pp
    return (
        cost.layer,
        cost.op,
        f"{cost.sqnr_db:.1f}",
        f"{1000 * cost.kl:.3f}",
        f"{cost.drop_pp:+.2f} [{low:+.2f}, {high:+.2f}]",
        f"{100 * cost.agreement:.2f} %",
    )


def draw_sensitivity(found: Sensitivity, path: str | os.PathLike[str]) -> None:
    """Write a PNG: a bar a layer (KL divergence), with what its accuracy drop is known to be beside it.

    Raises:
        EdgeferError: the path does not end in .png, or matplotlib is not installed.
    """
    if not os.fspath(path).endswith(".png"):
        raise EdgeferError(f"the picture is a PNG, and {os.fspath(path)} does not end in .png", hint="--png layers.png")
    require("matplotlib", "dev", "drawing the sensitivity of layers")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = (*found.layers, found.whole)
    figure = Figure(figsize=(10, 1.5 + 0.24 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    places = list(range(len(rows), 0, -1))
    left.barh(places, [1000 * cost.kl for cost in rows], color="tab:blue")
    left.set_yticks(places, [f"{cost.layer} {cost.op if cost.layer != cost.op else ''}".strip() for cost in rows])
    left.set_xlabel("KL divergence, 10⁻³ nats")
    drops = [cost.drop_pp for cost in rows]
    arms = [[c.drop_pp - c.ci95_pp[0] for c in rows], [c.ci95_pp[1] - c.drop_pp for c in rows]]
    right.errorbar(drops, places, xerr=arms, fmt="o", color="tab:red", markersize=3, capsize=2)
    right.axvline(0, color="grey", linewidth=0.8)
    right.set_xlabel(f"accuracy drop on {found.faces:,} faces, points (95 %)")
    figure.suptitle(f"One layer in INT8 at a time ({found.runtime} {found.flavour}, {found.method})", fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
