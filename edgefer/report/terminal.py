"""A report as a table: two lines a row, the numbers and below them their doubt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from edgefer.report.cells import cells
from edgefer.report.report import Report, Row

WIDTH = 100
"""Columns that a table may take where the output is no terminal."""

COLUMNS = ("p50 ms", "p95 ms", "images/s", "speed-up", "size", "top-1 %", "drop pp", "agree %")
SPEED_COLUMNS = 5
"""So many of them are about speed and size; where a line is too short for all, the others make a second table."""

_ASCII = str.maketrans({"–": "-", "…": "~", "×": "x", "·": "|", "−": "-", "≥": ">=", "°": ""})


def render(report: Report, *, force: bool = True) -> RenderableType:
    """The report for a rich console; without lines and colours where that is no terminal.

    Without ``force``, the latencies of an invalid run are left out; its reasons stand below in any case.
    """
    return _ReportTable(report, force)


def print_report(report: Report, console: Console | None = None, *, force: bool = True) -> None:
    """Print the table on stdout, or on ``console``; see :func:`render`."""
    target = Console() if console is None else console
    if not target.is_terminal:
        target.width = max(target.width, WIDTH)
    target.print(render(report, force=force))


def as_printable(text: str, console: Console) -> str:
    """``text``, in ASCII where the console can print nothing else."""
    return text.translate(_ASCII) if console.options.ascii_only else text


@dataclass(frozen=True)
class _ReportTable:
    report: Report
    force: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _text(_headline(self.report), options, "bold")
        whole = self._table(range(len(COLUMNS)), console, options)
        if Measurement.get(console, options.update(max_width=10_000), whole).maximum <= options.max_width:
            yield whole
        else:
            yield self._table(range(SPEED_COLUMNS), console, options)
            yield ""
            yield self._table(range(SPEED_COLUMNS, len(COLUMNS)), console, options)
        yield _text(LEGEND, options, "dim")
        for reason in self.report.invalid:
            yield _text(f"invalid: {reason}", options, "bold red")
        if self._hides:
            yield _text("its latencies are not shown: measure again, or print them as invalid with --force", options)
        for warning in self.report.warnings:
            yield _text(f"warning: {warning}", options, "yellow")

    @property
    def _hides(self) -> bool:
        return bool(self.report.invalid) and not self.force

    def _table(self, columns: range, console: Console, options: ConsoleOptions) -> Table:
        lines = box.SIMPLE_HEAD if console.is_terminal and not options.ascii_only else None
        padding = (0, 2) if lines is None else (0, 1, 0, 0)  # lines stand in a column of their own
        table = Table(box=lines, padding=padding, collapse_padding=True, pad_edge=False, show_edge=False)
        table.add_column("", overflow="fold")
        for column in columns:
            table.add_column(COLUMNS[column], justify="right", no_wrap=True)
        for row in (self.report.baseline, *self.report.engines):
            found = cells(row, self.report, hide=self._hides, percentiles=("p50", "p95"))
            values, doubts = zip(*found, strict=True)
            table.add_row(_text(row.name, options, "bold"), *(_text(values[i], options) for i in columns))
            remark = _text(f"  {_remark(row, self.report)}", options, "dim")
            table.add_row(remark, *(_text(doubts[i], options, "dim") for i in columns))
        return table


def _text(content: str, options: ConsoleOptions, style: str = "") -> Text:
    return Text(content.translate(_ASCII) if options.ascii_only else content, style=style)


def _remark(row: Row, report: Report) -> str:
    """What stands below a name: which row is the baseline, and the model where the headline's is another."""
    if row is report.baseline:
        return "baseline"
    return "" if row.model is None or row.model == report.engines[0].model else row.model


def _headline(report: Report) -> str:
    model = report.engines[0].model or report.baseline.name
    return (
        f"{model} on {Path(report.data).name}, {report.baseline.predictions.n:,} faces · batch {report.batch}, "
        f"{report.threads} thread{'s' if report.threads > 1 else ''} · {report.environment.get('cpu') or 'unknown CPU'}"
    )


LEGEND = (
    "Below: calls timed; 95 % intervals of speed-up (bootstrap), top-1 (Wilson), drop (Tango, paired).\n"
    "drop pp: points of top-1 lost to the baseline, negative where gained; agree %: same answers."
)
