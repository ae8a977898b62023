"""A report as Markdown: for a pull request, a model card or a wiki."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgefer.measure.accuracy import calibration_error, class_scores, kl_divergence, macro_f1
from edgefer.measure.paired import NonInferiority, class_drops
from edgefer.report.cells import NOT_MEASURED, cells
from edgefer.report.report import Report, Row
from edgefer.report.terminal_details import gpu_line, telemetry_line

HEAD = ("", "p50 ms", "p95 ms", "images/s", "speed-up", "size", "top-1 %", "drop, points", "agreement %")


def markdown(report: Report, *, force: bool = True) -> str:
    """The report; without ``force``, the latencies of an invalid run are left out."""
    hide = bool(report.invalid) and not force
    blocks = [
        f"## {report.engines[0].model or report.baseline.name} on {Path(report.data).name}",
        _setting(report),
        *(f"> **invalid:** {reason}" for reason in report.invalid),
        "Latencies of an invalid run are left out." if hide else "",
        *(f"> warning: {warning}" for warning in report.warnings),
        _table(HEAD, [list(_cells(row, report, hide)) for row in report.rows]),
        "Intervals are 95 %: speed-up bootstrap over rounds, top-1 Wilson, drop Tango (paired).",
        "" if hide else "\n".join(f"- {row.name}: {gpu_line(row.gpu)}" for row in report.rows if row.gpu is not None),
        "### Accuracy",
        "\n".join(_margins(report)),
        _table(
            ("", "macro-F1 %", "calibration error %", "KL, nats"), [list(_scores(row, report)) for row in report.rows]
        ),
        *_class_blocks(report),
        "### Measured on",
        "\n".join(environment_lines(report)),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _setting(report: Report) -> str:
    settings = report.settings
    scope = f"{settings.scope} at {settings.fps:g} frames/s" if settings.scope == "paced" else settings.scope
    threads = f"{report.threads} thread{'s' if report.threads > 1 else ''}"
    return f"{report.baseline.predictions.n:,} faces; scope {scope}, batch {report.batch}, {threads}."


def _cells(row: Row, report: Report, hide: bool) -> Iterator[str]:
    yield f"{row.name}{' (baseline)' if row is report.baseline else ''}"
    for value, doubt in cells(row, report, hide=hide, percentiles=("p50", "p95")):
        yield f"{value} [{doubt.replace('…', ', ')}]" if "…" in doubt else value


def _margins(report: Report) -> Iterator[str]:
    for row in report.engines:
        if row.paired is not None:
            verdict = NonInferiority.of(row.paired, report.settings.margin_pp)
            yield f"- {row.name}: {verdict.sentence()}"


def _scores(row: Row, report: Report) -> Iterator[str]:
    yield row.name
    yield f"{100 * macro_f1(row.predictions):.2f}"
    yield f"{100 * calibration_error(row.predictions):.2f}"
    base = report.baseline.predictions
    yield NOT_MEASURED if row is report.baseline else f"{kl_divergence(base, row.predictions):.2g}"


def _class_blocks(report: Report) -> Iterator[str]:
    base = class_scores(report.baseline.predictions)
    for row in report.engines:
        yield f"#### {row.name}, class by class"
        drops = class_drops(report.baseline.predictions, row.predictions)
        lines = []
        for score, now, drop in zip(base, class_scores(row.predictions), drops, strict=True):
            interval = NOT_MEASURED if drop.ci_pp is None else "[{:+.2f}, {:+.2f}]".format(*drop.ci_pp)
            dropped = NOT_MEASURED if drop.drop_pp is None else f"{drop.drop_pp:+.2f} {interval}"
            shares = (percent(value) for value in (score.recall, now.recall, now.precision, now.f1))
            lines.append([score.name, f"{score.n:,}", *shares, dropped])
        heads = ("class", "faces", "baseline recall %", "recall %", "precision %", "F1 %", "recall lost, points")
        yield _table(heads, lines)
    yield "The intervals of one network's classes hold together with 95 % (Tango's, Šidák's correction)."


def percent(share: float | None) -> str:
    """A share 0–1 as percent with one decimal; a dash where there is none."""
    return NOT_MEASURED if share is None else f"{100 * share:.1f}"


def environment_lines(report: Report) -> Iterator[str]:
    """The machine and the software, a Markdown list."""
    found = report.environment
    packages = ", ".join(f"{name} {version}" for name, version in (found.get("packages") or {}).items())
    for title, value in (
        ("processor", found.get("cpu")),
        ("board", found.get("board")),
        ("cores", found.get("cores")),
        ("instructions", " ".join(found.get("instruction_set") or ())),
        ("system", found.get("os")),
        ("Python", found.get("python")),
        ("packages", packages),
        ("watched", telemetry_line(report) if report.telemetry else None),
    ):
        if value:
            yield f"- {title}: {value}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    ruler = [":--"] + ["--:"] * (len(head) - 1)
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ruler, *escaped))
