"""Confusion matrices, and what changed between two of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgefer.report.html.svg import WIDTH, Chart

_LEFT, _TOP = 66.0, 58.0


def confusion(counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Rows are the truth, shaded by their share; the numbers are faces."""
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    chart, cell = _grid(classes, "Confusion matrix: rows are the truth, columns the answers")
    for (row, column), count in np.ndenumerate(counts):
        share = float(shares[row, column])
        told = f"{classes[row]} answered as {classes[column]}: {count} ({share:.1%} of its faces)"
        _cell(chart, cell, row, column, f"rgba(0,114,178,{0.92 * share:.3f})", str(count), told, share > 0.55)
    return chart.text()


def difference(change: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Engine − baseline: blue where the engine is better (more right answers, fewer wrong ones), red where worse."""
    chart, cell = _grid(classes, "Difference of the confusion matrices, engine minus baseline")
    greatest = max(1, int(np.abs(change).max()))
    for (row, column), count in np.ndenumerate(change):
        better = (count > 0) == (row == column)
        shade = "0,114,178" if better else "213,94,0"
        share = abs(int(count)) / greatest
        told = f"{classes[row]} answered as {classes[column]}: {count:+d} faces"
        text = f"{count:+d}" if count else "·"
        _cell(chart, cell, row, column, f"rgba({shade},{0.9 * share:.3f})", text, told, share > 0.6)
    return chart.text()


def _grid(classes: Sequence[str], label: str) -> tuple[Chart, float]:
    cell = (WIDTH - _LEFT - 4) / len(classes)
    chart = Chart(height=_TOP + 30 * len(classes) + 4, label=label)
    for i, name in enumerate(classes):
        chart.write(_LEFT - 5, _TOP + 30 * i + 19, name, anchor="end")
        chart.write(_LEFT + cell * (i + 0.5) - 4, _TOP - 6, name, turn=-40)
    return chart, cell


def _cell(chart: Chart, cell: float, row: int, column: int, fill: str, text: str, told: str, dark: bool) -> None:
    x, y = _LEFT + cell * column, _TOP + 30 * row
    chart.rectangle(x + 0.5, y + 0.5, cell - 1, 29, fill, told, kind="cell")
    chart.write(x + cell / 2, y + 19, text, anchor="middle", fill="#fff" if dark else "", kind="" if dark else "count")
