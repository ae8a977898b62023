"""A report on a terminal: a table of two lines a network, numbers and below them their doubt; and what stands below it.

The cells of that table are those of the Markdown and of the page too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from edgefer.measure.disturbance import MARK
from edgefer.measure.paired import ClassDrop, Verdict
from edgefer.report.report import Report, Row

WIDTH = 100
"""Columns that a table may take where the output is no terminal."""
NOT_MEASURED = "–"

COLUMNS = ("p50 ms", "p95 ms", "images/s", "speed-up", "size", "top-1 %", "drop pp", "agree %")
SPEED_COLUMNS = 5
"""The first columns are about speed and size; where a line is too short for all, the others make a second table."""
NAME_COLUMNS = 16
"""Columns that an engine's name has at least; where it is longer than what is left, it goes on in the next line."""
VERDICT_STYLES = {Verdict.PASS: "bold green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "bold yellow"}
LEGEND = (
    "Below: calls timed; 95 % intervals of speed-up (bootstrap), top-1 (Wilson), drop (Tango, paired).\n"
    "drop pp: points of top-1 lost to the baseline, negative where gained; agree %: same answers."
)

_ASCII = str.maketrans({"–": "-", "…": "..", "×": "x", "·": "|", "−": "-", "≥": ">=", "°": ""})


def render(report: Report) -> RenderableType:
    """The report for a rich console; without lines and colours where that is no terminal."""
    return _ReportTable(report)


def print_report(report: Report, console: Console | None = None) -> None:
    """Print the table on stdout, or on ``console``; see :func:`render`."""
    target = Console() if console is None else console
    if not target.is_terminal:
        target.width = max(target.width, WIDTH)
    target.print(render(report))


def print_details(report: Report, console: Console | None = None) -> None:
    """Print :func:`detail_lines` on stdout, or on ``console``."""
    target = Console() if console is None else console
    for line in detail_lines(report):
        target.print(as_printable(line, target), markup=False, emoji=False, highlight=False, soft_wrap=True)


def as_printable(text: str, console: Console) -> str:
    """``text``, in ASCII where the console can print nothing else."""
    return text.translate(_ASCII) if console.options.ascii_only else text


@dataclass(frozen=True)
class _ReportTable:
    report: Report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for row in self.report.engines:
            if row.verdict:
                yield _text(row.verdict, options, VERDICT_STYLES[row.outcome])
        yield _text(_headline(self.report), options, "bold")
        names = max(max(len(row.name), len(_remark(row, self.report)) + 2) for row in self.report.rows)
        whole = self._table(range(len(COLUMNS)), console, options, names)
        excess = Measurement.get(console, options.update(max_width=10_000), whole).maximum - options.max_width
        if names - max(0, excess) >= min(names, NAME_COLUMNS):
            yield whole if excess <= 0 else self._table(range(len(COLUMNS)), console, options, names - excess)
        else:
            names = min(names, 2 * NAME_COLUMNS)
            yield self._table(range(SPEED_COLUMNS), console, options, names)
            yield ""
            yield self._table(range(SPEED_COLUMNS, len(COLUMNS)), console, options, names)
        yield _text(LEGEND, options, "dim")
        if self.report.left_out is not None:
            yield _text(self.report.left_out.sentence(), options, "yellow")
        for reason in self.report.disturbances:
            yield _text(f"{MARK} disturbed: {reason}", options, "yellow")
        for warning in self.report.warnings:
            yield _text(f"warning: {warning}", options, "yellow")

    def _table(self, columns: range, console: Console, options: ConsoleOptions, names: int) -> Table:
        lines = box.SIMPLE_HEAD if console.is_terminal and not options.ascii_only else None
        padding = (0, 2) if lines is None else (0, 1, 0, 0)  # lines stand in a column of their own
        table = Table(box=lines, padding=padding, collapse_padding=True, pad_edge=False, show_edge=False)
        table.add_column("", overflow="fold", width=names)
        for column in columns:
            table.add_column(COLUMNS[column], justify="right", no_wrap=True)
        for row in self.report.rows:
            found = list(cells(row, self.report, percentiles=("50", "95")))
            table.add_row(_text(row.name, options, "bold"), *(_text(found[i].marked, options) for i in columns))
            remark = _text(f"  {_remark(row, self.report)}", options, "dim")
            table.add_row(remark, *(_text(found[i].doubt, options, "dim") for i in columns))
        return table


def _text(content: str, options: ConsoleOptions, style: str = "") -> Text:
    return Text(content.translate(_ASCII) if options.ascii_only else content, style=style)


def _remark(row: Row, report: Report) -> str:
    """The line below a name: what computes it, which row is the baseline, the model where the headline's is another."""
    other = None if row is report.baseline or row.model == report.engines[0].model else row.model
    return ", ".join(part for part in (row.how, other, "baseline" if row is report.baseline else None) if part)


def _headline(report: Report) -> str:
    return (
        f"{report.title}, {report.baseline.accuracy.n:,} faces · batch {report.settings.batch}, "
        f"{threads_text(report)} · {machine_text(report)}"
    )


def machine_text(report: Report) -> str:
    """The processor and, where something ran on it, the GPU."""
    used = any(row.device is not None for row in report.rows)
    found = [report.environment.get("gpu") or "unknown GPU"] if used else []
    return " · ".join(map(str, [*found, report.environment.get("cpu") or "unknown CPU"]))


def threads_text(report: Report) -> str:
    """``1 thread`` or ``2 threads``."""
    return f"{report.settings.threads} thread{'s' if report.settings.threads > 1 else ''}"


class Cell(NamedTuple):
    """A figure, its doubt (an interval ``low…high``, or how many calls) and what disturbed it."""

    value: str
    doubt: str = ""
    disturbed: tuple[str, ...] = ()

    @property
    def marked(self) -> str:
        """The figure, after :data:`MARK` where it was disturbed."""
        return f"{MARK}{self.value}" if self.disturbed else self.value


def cells(row: Row, report: Report, *, percentiles: Sequence[str]) -> Iterator[Cell]:
    """A cell for each column.

    The columns: ``percentiles`` in ms (below the first, how many calls), images per second, speed-up, size, top-1 in
    percent, points of it lost, agreement in percent.
    """
    latency, speedup, disturbed = row.latency, row.speedup, row.disturbed
    for i, percent in enumerate(percentiles):
        count = f"n={latency.n:,}" if latency is not None and i == 0 else ""
        yield _cell(None if latency is None else latency.percentile(percent), count, disturbed.percentile(percent))
    rate = row.images_per_s
    if rate is None:
        yield Cell(NOT_MEASURED)
    else:
        yield Cell(f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}", "", disturbed.median)
    if speedup is not None:
        yield Cell(f"{speedup.value:.2f}×", "{:.2f}…{:.2f}".format(*speedup.ci95), disturbed.speedup)
    else:
        yield Cell("1×" if row is report.baseline and latency is not None else NOT_MEASURED)
    yield Cell(size_text(row.size_bytes))
    low, high = row.accuracy.ci95
    yield Cell(f"{100 * row.accuracy.top1:.2f}", f"{100 * low:.1f}…{100 * high:.1f}")
    if row.paired is None:
        yield from (Cell(NOT_MEASURED), Cell(NOT_MEASURED))
    else:
        yield Cell(f"{row.paired.drop_pp:+.2f}", "{:+.2f}…{:+.2f}".format(*row.paired.ci95_pp))
        yield Cell(f"{100 * row.paired.agreement:.2f}")


def _cell(ms: float | None, doubt: str, disturbed: tuple[str, ...]) -> Cell:
    return Cell(digits(ms), doubt, () if ms is None else disturbed)


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


def detail_lines(report: Report) -> Iterator[str]:
    """The lines below the table: whether a margin holds, each class, pace, energy, and what was watched."""
    yield ""
    for row in report.rows:
        accuracy, paired = row.accuracy, row.paired
        kl = "" if paired is None else f", KL {paired.kl_nats:.2g} nats"
        error = f"calibration error {100 * accuracy.calibration_error:.2f} %"
        yield f"{row.name}: macro-F1 {100 * accuracy.macro_f1:.2f} %, {error}{kl}"
        if paired is not None:
            yield f"  {paired.non_inferiority.sentence()}"
            yield f"  {_classes(paired.per_class)}"
        yield from (f"  {line}" for line in _speed(row))
    if report.telemetry is not None:
        yield f"watched: {telemetry_line(report)}"


def _classes(drops: tuple[ClassDrop, ...]) -> str:
    known = [(drop, drop.drop_pp, drop.ci_pp) for drop in drops if drop.drop_pp is not None and drop.ci_pp is not None]
    told = [f"{drop.name} {points:+.2f} [{low:+.2f}, {high:+.2f}]" for drop, points, (low, high) in known if drop.seen]
    if told:
        return f"classes whose recall changed (intervals hold for all classes together): {', '.join(told)}"
    drop, points, (low, high) = max(known, key=lambda found: found[2][1] - found[2][0])
    interval = f"{points:+.2f} [{low:+.2f}, {high:+.2f}]"
    return f"no class's recall is seen to change; the widest interval is that of {drop.name}: {interval} points lost"


def _speed(row: Row) -> Iterator[str]:
    pace, latency, mark = row.pace, row.latency, _mark(row.disturbed.tail)
    if pace is not None:
        yield (
            f"at {pace.fps:g} frames per second: {mark}{pace.misses} of {pace.frames} answers missed "
            f"{pace.deadline_ms:.3g} ms, {pace.dropped} frames dropped, jitter {mark}{pace.jitter_ms:.2g} ms"
        )
    if latency is not None and latency.variation is not None:
        p999 = latency.percentile("99.9")
        tail = "" if p999 is None else f", p99.9 {mark}{p999:.3g} ms"
        yield f"{latency.n:,} calls vary by {mark}{latency.variation:.0%} of their mean{tail}"
    if row.gpu_ms is not None:
        yield gpu_line(row)
    if row.energy is not None:
        joules = f"{mark}{1000 * row.energy.joules_per_image:.3g}"
        yield f"{joules} mJ an image ({row.energy.source}, with what else it feeds)"


def _mark(reasons: tuple[str, ...]) -> str:
    return MARK if reasons else ""


def gpu_line(row: Row) -> str:
    """Durations of the row's calls on the GPU, on one line; empty where they were not measured."""
    times = row.gpu_ms
    if times is None:
        return ""
    upload, compute, download = (
        f"{_mark(row.disturbed.median)}{digits(ms)} ms" for ms in (times.upload, times.compute, times.download)
    )
    steps = f"{upload} to it, {compute} computing, {download} back"
    return f"on the GPU: {steps} (medians of {times.calls:,} calls, {times.replayed:,} replayed as a CUDA graph)"


def telemetry_line(report: Report) -> str:
    """The telemetry of a second process, on one line."""
    seen = report.telemetry or {}
    parts = [f"{seen['cpu_load']:.2f} cores busy"] if seen.get("cpu_load") is not None else []
    if seen.get("mhz"):
        parts.append(f"{seen['mhz']['median']:,.0f} MHz")
    if seen.get("gpu_mhz"):
        parts.append(f"GPU {seen['gpu_mhz']['median']:,.0f} MHz")
    if seen.get("celsius"):
        hottest = seen["celsius"]
        parts.append(f"{hottest['zone']} {hottest['first']:.0f} to {hottest['max']:.0f} °C")
    if seen.get("watts") is not None:
        parts.append(f"{seen['watts']:.1f} W ({seen['power_source']})")
    if seen.get("peak_rss_bytes"):
        parts.append(f"peak memory {seen['peak_rss_bytes'] / 1e6:,.0f} MB")
    if seen.get("untold"):
        names = {"mhz": "clock", "celsius": "temperature", "watts": "power"}
        parts.append(f"not measurable on this machine: {', '.join(names.get(key, key) for key in seen['untold'])}")
    return ", ".join(parts)
