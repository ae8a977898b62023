"""Confusion matrices, and what changed between two of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefer.report.html.labels import shortened, width
from edgefer.report.html.svg import WIDTH, Chart

_TURN = 40
"""Degrees by which the columns' names lean: they end at their column, over the empty corner, not beyond the last."""
_NAME_WIDTH = 120.0


def confusion(counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Rows are the truth, shaded by their share; the numbers are faces."""
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    grid = _grid(classes, "Confusion matrix: rows are the truth, columns the answers")
    for (row, column), count in np.ndenumerate(counts):
        share = float(shares[row, column])
        told = f"{classes[row]} answered as {classes[column]}: {count} ({share:.1%} of its faces)"
        grid.fill(row, column, f"rgba(0,114,178,{0.92 * share:.3f})", str(count), told, share > 0.55)
    return grid.chart.text()


def difference(change: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Engine − baseline: blue where the engine is better (more right answers, fewer wrong ones), red where worse."""
    grid = _grid(classes, "Difference of the confusion matrices, engine minus baseline")
    greatest = max(1, int(np.abs(change).max()))
    for (row, column), count in np.ndenumerate(change):
        better = (count > 0) == (row == column)
        shade = "0,114,178" if better else "213,94,0"
        share = abs(int(count)) / greatest
        told = f"{classes[row]} answered as {classes[column]}: {count:+d} faces"
        text = f"{count:+d}" if count else "·"
        grid.fill(row, column, f"rgba({shade},{0.9 * share:.3f})", text, told, share > 0.6)
    return grid.chart.text()


@dataclass(frozen=True)
class _Grid:
    """Where the cells are."""

    chart: Chart
    left: float
    top: float
    cell: float

    def fill(self, row: int, column: int, fill: str, text: str, told: str, dark: bool) -> None:
        x, y = self.left + self.cell * column, self.top + 30 * row
        self.chart.rectangle(x + 0.5, y + 0.5, self.cell - 1, 29, fill, told, kind="cell")
        ink, kind = ("#fff", "") if dark else ("", "count")
        self.chart.write(x + self.cell / 2, y + 19, text, anchor="middle", fill=ink, kind=kind)


def _grid(classes: Sequence[str], label: str) -> _Grid:
    names = [shortened(name, _NAME_WIDTH) for name in classes]
    longest = max(width(name) for name in names)
    left, top = max(66.0, 9 + longest), 14 + longest * math.sin(math.radians(_TURN))
    cell = (WIDTH - left - 4) / len(names)
    chart = Chart(height=top + 30 * len(names) + 4, label=label)
    for i, name in enumerate(names):
        chart.write(left - 5, top + 30 * i + 19, name, anchor="end")
        chart.write(left + cell * (i + 0.5) + 4, top - 6, name, anchor="end", turn=_TURN)
    return _Grid(chart, left, top, cell)
