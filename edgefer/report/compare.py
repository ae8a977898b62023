"""Comparison of reports: how every network changed since the first report, and what limits the comparison."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgefer.errors import EdgeferError
from edgefer.measure.disturbance import MARK
from edgefer.measure.latency import Estimate
from edgefer.measure.paired import Paired
from edgefer.report.report import Report, Row, from_digits, from_members
from edgefer.report.terminal import NOT_MEASURED, WIDTH, as_printable, digits, size_text

HEAD = ("", "p50 ms", "slower", "p95 ms", "size", "top-1 %", "lost, points")
_SAME_SETTINGS = ("scope", "batch", "threads", "fps", "device")
_SAME_MACHINE = ("cpu", "board", "cores", "instruction_set", "gpu")


@dataclass(frozen=True)
class Change:
    """One network's results in two reports, and how they changed.

    Attributes:
        name: the network's name in both.
        slowdown: percentile → new ÷ old latency, with an interval; 1 is unchanged.
        disturbed: percentile → reasons to doubt its slowdown: what disturbed one of the two latencies.
        drop_pp: points of top-1 lost, positive: worse now; paired if both were evaluated on the same faces.
        is_paired: whether it was.
    """

    name: str
    slowdown: dict[str, Estimate]
    disturbed: dict[str, tuple[str, ...]]
    drop_pp: Estimate
    is_paired: bool


def change(old: Report, new: Report, before: Row, after: Row) -> Change:
    """Compare one network in two reports."""
    paired = _paired_drop(old, new, before, after)
    files = (old.file, new.file) if old.file != new.file else (str(old.path), str(new.path))
    return Change(
        name=after.name,
        slowdown={
            percent: ratio(value, before.percentiles[percent])
            for percent, value in after.percentiles.items()
            if percent in before.percentiles
        },
        disturbed={
            percent: tuple(
                f"{file}: {reason}"
                for file, row in zip(files, (before, after), strict=True)
                for reason in row.disturbed.percentile(percent)
            )
            for percent in after.percentiles
            if percent in before.percentiles
        },
        drop_pp=paired or _unpaired_drop(old, new, before, after),
        is_paired=paired is not None,
    )


def ratio(new: Estimate, old: Estimate) -> Estimate:
    """Divide independent estimates, ``new`` by ``old``: in logarithms, their intervals' half-widths add as squares."""
    value = new.value / old.value
    low = math.hypot(math.log(new.value / new.ci95[0]), math.log(old.ci95[1] / old.value))
    high = math.hypot(math.log(new.ci95[1] / new.value), math.log(old.value / old.ci95[0]))
    return Estimate(value, (value * math.exp(-low), value * math.exp(high)))


def differences(old: Report, new: Report) -> Iterator[str]:
    """Other differences between two reports, which limit what a comparison of latencies means."""
    ours, theirs = old.settings.to_dict(), new.settings.to_dict()
    for key in _SAME_SETTINGS:
        one, two = ours.get(key), theirs.get(key)
        if one != two and None not in (one, two):  # a report of an earlier edgefer does not say it
            yield f"{key} is {one} in {old.file} and {two} in {new.file}"
    for key in _SAME_MACHINE:
        one, two = old.environment.get(key), new.environment.get(key)
        if one != two:
            yield f"{key} is {_told(one)} in {old.file} and {_told(two)} in {new.file}"


def check_same_classes(one: Report, other: Report) -> None:
    """Refuse two reports of networks with other classes.

    Raises:
        EdgeferError: naming both reports and the classes of both.
    """
    if other.classes != one.classes:
        raise EdgeferError(
            f"{one.path} has the classes {', '.join(one.classes)}; {other.path} has {', '.join(other.classes)}",
            hint="compare reports of networks with the same labels",
        )


def same_faces(old: Report, new: Report) -> bool:
    """Whether both were evaluated on the same faces, with the same labels and classes."""
    return old.faces_sha256 == new.faces_sha256 and old.classes == new.classes


def _paired_drop(old: Report, new: Report, before: Row, after: Row) -> Estimate | None:
    if not same_faces(old, new):
        return None
    digits_of = (old.labels, before.accuracy.answers, after.accuracy.answers)
    known = [from_digits(found) for found in digits_of if found is not None]
    if len(known) < len(digits_of):
        return None
    labels, answers_then, answers_now = known
    groups = from_members(new.groups or (), len(labels))
    paired = Paired.from_answers(labels, answers_then, answers_now, groups)
    return Estimate(paired.drop_pp, paired.ci95_pp)


def _unpaired_drop(old: Report, new: Report, before: Row, after: Row) -> Estimate:
    """Newcombe's hybrid score interval of a difference of independent proportions (1998, Stat. Med. 17, 873, nr 10)."""
    one, two = before.accuracy, after.accuracy
    drop = one.top1 - two.top1
    low = math.hypot(one.top1 - one.ci95[0], two.ci95[1] - two.top1)
    high = math.hypot(one.ci95[1] - one.top1, two.top1 - two.ci95[0])
    return Estimate(100 * drop, (100 * (drop - low), 100 * (drop + high)))


def _told(value: object) -> str:
    return "unknown" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)


def comparison(reports: Sequence[Report]) -> dict[str, Any]:
    """JSON-ready: ``reports`` (with ``differs``, what limits the comparison) and ``rows``.

    Raises:
        EdgeferError: fewer than two reports, or one of other classes than the first.
    """
    first = _checked(reports)
    told = [
        {
            "report": str(report.path),
            "created": report.created,
            "data": report.data,
            "same_faces": same_faces(first, report),
            "disturbances": list(report.disturbances),
            "left_out": None if report.left_out is None else report.left_out.sentence(),
            "differs": [] if report is first else list(differences(first, report)),
        }
        for report in reports
    ]
    rows = [_row_json(report, row, found) for report, row, found in _rows(reports)]
    return {"reports": told, "rows": rows}


def print_comparison(reports: Sequence[Report], console: Console | None = None) -> None:
    """Print the table on stdout, or on ``console``.

    Raises:
        EdgeferError: as :func:`comparison`.
    """
    first = _checked(reports)
    out = Console() if console is None else console
    if not out.is_terminal:
        out.width = max(out.width, WIDTH)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column, title in enumerate(HEAD):
        table.add_column(as_printable(title, out), justify="right" if column else "left", overflow="fold")
    current: Report | None = None
    for report, row, found in _rows(reports):
        if report is not current:
            table.add_row(Text(as_printable(report.file, out), style="bold"))
            current = report
        table.add_row(*(Text(as_printable(cell, out)) for cell in _cells(row, found)))
    out.print(table)
    for line in _notes(first, reports):
        out.print(as_printable(line, out), markup=False, highlight=False, soft_wrap=True)


def _checked(reports: Sequence[Report]) -> Report:
    if len(reports) < 2:
        raise EdgeferError(
            f"a comparison needs two or more reports, not {len(reports)}", hint="edgefer compare A.json B.json"
        )
    first = reports[0]
    for other in reports[1:]:
        check_same_classes(first, other)
    return first


def _rows(reports: Sequence[Report]) -> Iterator[tuple[Report, Row, Change | None]]:
    first = reports[0]
    for report in reports:
        for row in report.rows:
            before = None if report is first else first.counterpart(row.name, report)
            yield report, row, None if before is None else change(first, report, before, row)


def _row_json(report: Report, row: Row, found: Change | None) -> dict[str, Any]:
    return {
        "report": str(report.path),
        "name": row.name,
        "latency_ms": {
            percent: {**asdict(value), "disturbed": list(row.disturbed.percentile(percent))}
            for percent, value in row.percentiles.items()
        },
        "top1": asdict(Estimate(row.accuracy.top1, row.accuracy.ci95)),
        "size_bytes": row.size_bytes,
        "slowdown": None
        if found is None
        else {p: {**asdict(value), "disturbed": list(found.disturbed[p])} for p, value in found.slowdown.items()},
        "drop_pp": None if found is None else {**asdict(found.drop_pp), "paired": found.is_paired},
    }


def _cells(row: Row, found: Change | None) -> Iterator[str]:
    slower = None if found is None else found.slowdown.get("50")
    doubtful = found is not None and found.disturbed.get("50")
    yield f"  {row.name}"
    yield _time(row, "50")
    told = NOT_MEASURED if slower is None else f"{slower.value - 1:+.0%} {_ends(slower, 100, -1)}"
    yield f"{MARK}{told}" if doubtful else told
    yield _time(row, "95")
    yield size_text(row.size_bytes)
    yield f"{100 * row.accuracy.top1:.2f}"
    yield NOT_MEASURED if found is None else f"{found.drop_pp.value:+.2f} {_ends(found.drop_pp)}"


def _time(row: Row, percent: str) -> str:
    found = row.percentiles.get(percent)
    if found is None:
        return NOT_MEASURED
    return f"{MARK if row.disturbed.percentile(percent) else ''}{digits(found.value)}"


def _ends(estimate: Estimate, factor: float = 1, shift: float = 0) -> str:
    low, high = (factor * (end + shift) for end in estimate.ci95)
    return f"{low:+.0f}…{high:+.0f}" if factor > 1 else f"{low:+.2f}…{high:+.2f}"


def _notes(first: Report, reports: Sequence[Report]) -> Iterator[str]:
    yield "slower, lost: against the same row of the first report, with 95 % intervals."
    for report in reports:
        if report.left_out is not None:
            yield f"{report.file}: {report.left_out.sentence()}"
        for reason in report.disturbances:
            yield f"{MARK} disturbed: {report.file}: {reason}"
        if report is first:
            continue
        for difference in differences(first, report):
            yield f"warning: latencies are not comparable as they stand: {difference}"
        if not same_faces(first, report):
            yield f"warning: {report.file} was evaluated on other faces: what it lost is not paired"
