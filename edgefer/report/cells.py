"""A network's figures as text, each with its doubt: the row of the table on a terminal, in Markdown and on the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgefer.report.report import Report, Row

NOT_MEASURED = "–"


def cells(row: Row, report: Report, *, hide: bool, percentiles: Sequence[str]) -> Iterator[tuple[str, str]]:
    """A value and its doubt, a pair a column; with ``hide``, no latency.

    The columns: ``percentiles`` in ms (attributes of :class:`Latency`; below the first, how many calls), images a
    second, speed-up, size, top-1 in percent, points of it lost, agreement in percent. An interval is ``low…high``.
    """
    latency, speedup = (None, None) if hide else (row.latency, row.speedup)
    for i, name in enumerate(percentiles):
        count = f"n={latency.n:,}" if latency is not None and i == 0 else ""
        yield digits(None if latency is None else getattr(latency, name)), count
    rate = None if hide else row.images_per_s(report.batch)
    yield NOT_MEASURED if rate is None else f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}", ""
    if speedup is not None:
        yield f"{speedup.value:.2f}×", "{:.2f}…{:.2f}".format(*speedup.ci95)
    else:
        yield "1×" if row is report.baseline and latency is not None else NOT_MEASURED, ""
    yield size_text(row.size_bytes), ""
    low, high = row.predictions.top1_ci95
    yield f"{100 * row.predictions.top1:.2f}", f"{100 * low:.1f}…{100 * high:.1f}"
    if row.paired is None:
        yield from ((NOT_MEASURED, ""), (NOT_MEASURED, ""))
    else:
        yield f"{row.paired.drop_pp:+.2f}", "{:+.2f}…{:+.2f}".format(*row.paired.ci95_pp)
        yield f"{100 * row.paired.agreement:.2f}", ""


def digits(value: float | None) -> str:
    """Three significant digits, never in exponents: 0.0234, 2.19, 19.6, 1,234."""
    if value is None:
        return NOT_MEASURED
    for bound, places in ((0.1, 4), (1, 3), (10, 2), (100, 1)):
        if value < bound:
            return f"{value:.{places}f}"
    return f"{value:,.0f}"


def size_text(size_bytes: int | None) -> str:
    """Decimal units, as disks and packages are counted."""
    if size_bytes is None:
        return NOT_MEASURED
    for bound, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= bound:
            scaled = size_bytes / bound
            return f"{scaled:.0f} {unit}" if scaled >= 100 else f"{scaled:.1f} {unit}"
    return f"{size_bytes} B"
