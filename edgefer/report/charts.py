"""The page's charts: latency, accuracy, what each class lost, and confusion matrices with what changed between two."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgefer.measure.paired import ClassDrop
from edgefer.report.report import BINS, SHARES, Counts, Interval, LatencySummary, Row
from edgefer.report.svg import LINE, WIDTH, Box, Chart, Names, broken, colour, width

NAME_WIDTH = 230.0
"""Units that a line of a name may take in the chart of accuracies."""
CLASS_WIDTH = 130.0
"""Units that a line of a class's name may take."""
_TURN = 40
"""Degrees by which column names of a matrix lean: they end at their column, over the empty corner, not beyond it."""
_MATRIX_NAME_WIDTH = 140.0


def histogram(rows: Sequence[Row], axis: Interval) -> str:
    """A small histogram for each row, one below the other, on one logarithmic axis of ms."""
    found = _timed(rows)
    band = 62.0
    chart = Chart(height=10 + band * len(found) + 36, label="Histogram of latencies", left=10)
    x = chart.x(*axis, logarithmic=True)
    chart.axes(x, None, "ms per call (logarithmic)")
    edges = np.geomspace(*axis, BINS + 1).tolist()
    for place, (i, row, latency) in enumerate(found):
        floor, highest = 10 + band * (place + 1), max(latency.histogram)
        for k, count in enumerate(latency.histogram):
            if count:
                height = (band - 18) * count / highest
                told = f"{edges[k]:.3g} to {edges[k + 1]:.3g} ms: {count} of {latency.n} calls"
                left, right = x(edges[k]), x(edges[k + 1])
                chart.rectangle(left, floor - height, max(right - left - 0.3, 0.5), height, colour(i), told)
        chart.line(chart.left, floor, WIDTH - chart.right, floor, "floor")
        near_end = x(latency.quantiles[SHARES.index(0.5)]) > WIDTH / 2
        side = chart.left + 2 if near_end else WIDTH - chart.right - 2
        lines = broken(row.name, WIDTH - 20)
        chart.name(side, floor - band + 20, lines, anchor="start" if near_end else "end")
    return chart.text()


def cumulative(rows: Sequence[Row], axis: Interval) -> str:
    """The share of calls that took at most a given time, all rows together."""
    chart = Chart(height=260, label="Cumulative distribution of latencies")
    x, y = chart.x(*axis, logarithmic=True), chart.y(0, 100)
    chart.axes(x, y, "ms per call (logarithmic)", "{:g} %")
    for i, _, latency in _timed(rows):
        points = [(x(value), y(100 * share)) for value, share in zip(latency.quantiles, SHARES, strict=True)]
        chart.path(points, colour(i))
    return chart.text()


def pareto(rows: Sequence[Row]) -> str:
    """Top-1 (with its interval) against the median latency, and the front that nothing beats in both.

    Rows without a median are dashed lines. Empty where no row has one.
    """
    found = [(i, row, p50) for i, row in enumerate(rows) if row.latency is not None and (p50 := row.latency.p50)]
    if not found:
        return ""
    lines = sum(len(broken(_named(row), NAME_WIDTH)) for row in rows)
    for headroom in (0.0, 1.0, 2.0, 3.0):  # names that would cover something get room above all intervals
        chart, names = _accuracies(rows, found, headroom * LINE * lines)
        if not names.crowded:
            break
    return chart.text()


def _accuracies(rows: Sequence[Row], found: Sequence[tuple[int, Row, float]], headroom: float) -> tuple[Chart, Names]:
    """The chart of :func:`pareto`, with ``headroom`` units above all intervals, and where its names are."""
    chart = Chart(height=290 + headroom, label="Accuracy against latency")
    medians = [p50 for _, _, p50 in found]
    x = chart.x(min(medians) / 1.4, max(medians) * 1.4, logarithmic=True)
    bounds = [100 * end for row in rows for end in row.accuracy.ci95]
    y = replace(chart.y(max(0.0, min(bounds) - 0.5), min(100.0, max(bounds) + 0.5)), end=chart.top + headroom)
    chart.axes(x, y, "median ms per call (logarithmic)", "{:g} %")
    front = _front([(p50, 100 * row.accuracy.top1) for _, row, p50 in found])
    steps = [step for (px, py), (qx, qy) in itertools.pairwise(front) for step in ((px, py), (qx, py), (qx, qy))]
    corners = [(x(px), y(py)) for px, py in steps or front]
    chart.path(corners, "currentColor", "front")
    marks = [_around((px, py), (qx, qy), 1.5) for (px, py), (qx, qy) in itertools.pairwise(corners)]
    for i, row, p50 in found:
        top1 = 100 * row.accuracy.top1
        low, high = (100 * end for end in row.accuracy.ci95)
        told = f"{row.name}: {p50:.3g} ms, top-1 {top1:.2f} % [{low:.1f}, {high:.1f}]"
        chart.line(x(p50), y(low), x(p50), y(high), "whisker", colour(i), told)
        chart.circle(x(p50), y(top1), colour(i), told)
        marks.append(_around((x(p50), y(low)), (x(p50), y(high)), 3))
        marks.append(_around((x(p50), y(top1)), (x(p50), y(top1)), 6))
    levels = [(i, row) for i, row in enumerate(rows) if not any(row is other for _, other, _ in found)]
    for i, row in levels:
        level = y(100 * row.accuracy.top1)
        chart.line(chart.left, level, WIDTH - chart.right, level, "level", colour(i), row.name)
        marks.append(_around((chart.left, level), (WIDTH - chart.right, level), 1.5))
    names = Names(Box(chart.left, chart.top, WIDTH - chart.right, chart.height - chart.bottom), marks)
    for i, row, at in [*((i, row, chart.left) for i, row in levels), *((i, row, x(p50)) for i, row, p50 in found)]:
        lines = broken(_named(row), NAME_WIDTH)
        chart.name(*names.place(at, y(100 * row.accuracy.top1), *lines), lines, fill=colour(i))
    return chart, names


def _named(row: Row) -> str:
    """Its name, and why it is a level without a point: predictions from elsewhere, or too few calls for a median."""
    if row.latency is None:
        return f"{row.name} (not timed)"
    return row.name if row.latency.p50 else f"{row.name} (no median)"


def _around(start: tuple[float, float], end: tuple[float, float], room: float) -> Box:
    (px, py), (qx, qy) = start, end
    return Box(min(px, qx) - room, min(py, qy) - room, max(px, qx) + room, max(py, qy) + room)


def forest(drops: Sequence[ClassDrop], index: int, margin_pp: float) -> str:
    """Recall that each class lost, with simultaneous intervals."""
    known = [drop for drop in drops if drop.ci_pp is not None]
    ends = [end for drop in known if drop.ci_pp is not None for end in drop.ci_pp]
    names = [broken(f"{drop.name} ({drop.n:,})", CLASS_WIDTH, bold=False) for drop in drops]
    left = max(106.0, 8 + max(width(line) for name in names for line in name))
    tall = max(24.0, LINE * max(map(len, names)) + 6)
    chart = Chart(height=46 + tall * len(drops), label="Recall lost, class by class", left=left)
    x = chart.x(min([*ends, -margin_pp]) * 1.08, max([*ends, margin_pp]) * 1.08)
    chart.axes(x, None, "points of recall lost (right is worse)")
    chart.line(x(0), chart.top, x(0), chart.height - chart.bottom, "zero")
    for place, (drop, name) in enumerate(zip(drops, names, strict=True)):
        level = chart.top + tall * (place + 0.5)
        _write(chart, chart.left - 6, level + 4, name)
        if drop.ci_pp is None or drop.drop_pp is None:
            chart.write(chart.left + 4, level + 4, "no face")
            continue
        told = "{}: {:+.2f} [{:+.2f}, {:+.2f}] of {} faces".format(drop.name, drop.drop_pp, *drop.ci_pp, drop.n)
        chart.line(x(drop.ci_pp[0]), level, x(drop.ci_pp[1]), level, "whisker", colour(index), told)
        chart.circle(x(drop.drop_pp), level, colour(index), told, 5.5 if drop.seen else 3.5)
    return chart.text()


def _timed(rows: Sequence[Row]) -> list[tuple[int, Row, LatencySummary]]:
    """Rows that were timed, with their place (for the colour) and their latency."""
    return [(i, row, row.latency) for i, row in enumerate(rows) if row.latency is not None]


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats in both: from fast to slow, each more accurate than all before it."""
    front: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda p: (p[0], -p[1])):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front


def confusion(counts: Counts, classes: Sequence[str]) -> str:
    """Rows are the truth, shaded by their share; the numbers are faces."""
    grid = _grid(classes, "Confusion matrix: rows are the truth, columns the answers")
    for (row, column), count in np.ndenumerate(np.array(counts)):
        share = count / max(1, sum(counts[row]))
        told = f"{classes[row]} answered as {classes[column]}: {count} ({share:.1%} of its faces)"
        grid.fill(row, column, f"rgba(0,114,178,{0.92 * share:.3f})", str(count), told, share > 0.55)
    return grid.chart.text()


def confusion_difference(change: Counts, classes: Sequence[str]) -> str:
    """Engine − baseline: blue where the engine is better (more right answers, fewer wrong ones), red where worse."""
    grid = _grid(classes, "Difference of the confusion matrices, engine minus baseline")
    greatest = max(1, int(np.abs(change).max()))
    for (row, column), count in np.ndenumerate(np.array(change)):
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
    line: float

    def fill(self, row: int, column: int, fill: str, text: str, told: str, dark: bool) -> None:
        x, y = self.left + self.cell * column, self.top + self.line * row
        self.chart.rectangle(x + 0.5, y + 0.5, self.cell - 1, self.line - 1, fill, told, kind="cell")
        ink, kind = ("#fff", "") if dark else ("", "count")
        self.chart.write(x + self.cell / 2, y + self.line / 2 + 4, text, anchor="middle", fill=ink, kind=kind)


def _grid(classes: Sequence[str], label: str) -> _Grid:
    """The empty matrix. Names of rows take several lines where they are long; names of columns stand upright then."""
    names = [broken(name, _MATRIX_NAME_WIDTH, bold=False) for name in classes]
    longest = max(width(line) for name in names for line in name)
    left, line = max(66.0, 9 + longest), max(30.0, LINE * max(map(len, names)) + 4)
    cell = (WIDTH - left - 4) / len(names)
    upright = any(len(name) > 1 for name in names)
    columns, room = names, _MATRIX_NAME_WIDTH
    while upright and max(map(len, columns)) * LINE > max(cell, LINE):
        room *= 1.2
        columns = [broken(name, room, bold=False) for name in classes]
    turn = 90 if upright else _TURN
    top = 14 + max(width(part) for column in columns for part in column) * math.sin(math.radians(turn))
    chart = Chart(height=top + line * len(names) + 4, label=label)
    for i, (name, column) in enumerate(zip(names, columns, strict=True)):
        _write(chart, left - 5, top + line * (i + 0.5) + 4, name)
        for k, part in enumerate(column):  # turned to the right, the first line is the rightmost
            along = LINE * ((len(column) - 1) / 2 - k) - 4 if upright else 4
            chart.write(left + cell * (i + 0.5) + along, top - 6, part, anchor="end", turn=turn)
    return _Grid(chart, left, top, cell, line)


def _write(chart: Chart, x: float, y: float, lines: Sequence[str]) -> None:
    """``lines`` that end at ``x``, with their middle at ``y``."""
    for k, text in enumerate(lines):
        chart.write(x, y + LINE * (k - (len(lines) - 1) / 2), text, anchor="end")
