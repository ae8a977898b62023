"""The table of what an automatic choice measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH_OF_A_FILE = 110


def print_candidates(rows: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print a line a candidate: its cost, size, drop and agreement on `val`, and which was taken."""
    out = console or Console()
    table = Table(box=None, pad_edge=False)
    counted = any(row.get("float_macs") is not None for row in rows)
    cost = "MMACs in float" if counted else "p50 ms"
    for heading in ("candidate", cost, "MB", "drop on val, points", "agreement", ""):
        text = heading in ("candidate", "")
        table.add_column(heading, justify="left" if text else "right", no_wrap=not text)
    for row in rows:
        table.add_row(
            str(row["label"]),
            _cost(row["float_macs"], 1e6, 2) if counted else _cost(row["p50_ms"], 1, 3),
            f"{row['bytes'] / 1e6:.2f}",
            _drop(row),
            "–" if row["agreement"] is None else f"{100 * row['agreement']:.2f} %",
            "chosen" if row["chosen"] else "" if row["within"] else "drops too much",
        )
    if not out.is_terminal:
        out = Console(file=out.file, width=WIDTH_OF_A_FILE)
    out.print(table)


def _cost(value: float | None, unit: float, digits: int) -> str:
    return "–" if value is None else f"{value / unit:.{digits}f}"


def _drop(row: Mapping[str, Any]) -> str:
    if row["drop_pp"] is None or row["ci95_pp"] is None:
        return "–"
    low, high = row["ci95_pp"]
    return f"{row['drop_pp']:+.2f} [{low:+.2f}, {high:+.2f}]"
