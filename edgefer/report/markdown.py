"""A report as Markdown: for a pull request, a model card or a wiki."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgefer.measure.disturbance import MARK
from edgefer.report.report import Report, Row
from edgefer.report.terminal import NOT_MEASURED, cells, gpu_line, telemetry_line, threads_text

HEAD = ("", "p50 ms", "p95 ms", "images/s", "speed-up", "size", "top-1 %", "drop, points", "agreement %")


def markdown(report: Report) -> str:
    """The report; figures that were disturbed stand after a ``~``."""
    blocks = [
        f"## {report.title}",
        "\n".join(f"- **{row.verdict}**" for row in report.engines if row.verdict),
        _setting(report),
        "" if report.left_out is None else f"> {report.left_out.sentence()}",
        *(f"> {MARK} disturbed: {reason}" for reason in report.disturbances),
        *(f"> warning: {warning}" for warning in report.warnings),
        _table(HEAD, [list(_cells(row, report)) for row in report.rows]),
        "Intervals are 95 %: speed-up bootstrap over rounds, top-1 Wilson, drop Tango (paired).",
        "\n".join(f"- {row.name}: {gpu_line(row)}" for row in report.rows if row.gpu_ms),
        "### Accuracy",
        "\n".join(f"- {row.name}: {row.paired.non_inferiority.sentence()}" for row in report.engines if row.paired),
        _table(("", "macro-F1 %", "calibration error %", "KL, nats"), [_scores(row) for row in report.rows]),
        *_class_blocks(report),
        "### Measured on",
        "\n".join(f"- {title}: {value}" for title, value in environment_lines(report) if value),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _setting(report: Report) -> str:
    settings = report.settings
    scope = f"{settings.scope} at {settings.fps:g} frames/s" if settings.scope == "paced" else settings.scope
    return f"{report.baseline.accuracy.n:,} faces; scope {scope}, batch {settings.batch}, {threads_text(report)}."


def _cells(row: Row, report: Report) -> Iterator[str]:
    about = ", ".join(part for part in (row.how, "baseline" if row is report.baseline else "") if part)
    yield f"{row.name}{f' ({about})' if about else ''}"
    for cell in cells(row, report, percentiles=("50", "95")):
        yield f"{cell.marked} [{cell.doubt.replace('…', ', ')}]" if "…" in cell.doubt else cell.marked


def _scores(row: Row) -> list[str]:
    kl = NOT_MEASURED if row.paired is None else f"{row.paired.kl_nats:.2g}"
    return [row.name, f"{100 * row.accuracy.macro_f1:.2f}", f"{100 * row.accuracy.calibration_error:.2f}", kl]


def _class_blocks(report: Report) -> Iterator[str]:
    heads = ("class", "faces", "baseline recall %", "recall %", "precision %", "F1 %", "recall lost, points")
    for row in report.engines:
        if row.paired is None:
            continue
        yield f"#### {row.name}, class by class"
        lines = []
        scores = zip(report.baseline.accuracy.per_class, row.accuracy.per_class, row.paired.per_class, strict=True)
        for before, now, drop in scores:
            interval = NOT_MEASURED if drop.ci_pp is None else "[{:+.2f}, {:+.2f}]".format(*drop.ci_pp)
            dropped = NOT_MEASURED if drop.drop_pp is None else f"{drop.drop_pp:+.2f} {interval}"
            shares = (percent(value) for value in (before.recall, now.recall, now.precision, now.f1))
            lines.append([before.name, f"{before.n:,}", *shares, dropped])
        yield _table(heads, lines)
    yield "The intervals of one network's classes hold together with 95 % (Tango's, Šidák's correction)."


def percent(share: float | None) -> str:
    """A share 0–1 as percent with one decimal; a dash where there is none."""
    return NOT_MEASURED if share is None else f"{100 * share:.1f}"


def environment_lines(report: Report) -> Iterator[tuple[str, object]]:
    """The machine and the software, a title and a value each; empty where it is not known."""
    found = report.environment
    yield "processor", found.get("cpu")
    yield "board", found.get("board")
    yield "GPU", found.get("gpu")
    yield "GPU driver", found.get("gpu_driver")
    yield "cores", found.get("cores")
    yield "instructions", " ".join(found.get("instruction_set") or ())
    yield "system", found.get("os")
    yield "Python", found.get("python")
    yield "packages", ", ".join(f"{name} {version}" for name, version in (found.get("packages") or {}).items())
    yield "watched", telemetry_line(report) if report.telemetry else None


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    ruler = [":--"] + ["--:"] * (len(head) - 1)
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ruler, *escaped))
