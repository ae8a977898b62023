"""The page: everything that a report knows, in one file that needs no network and no script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from edgefer.measure.accuracy import calibration_error, class_scores, kl_divergence, macro_f1
from edgefer.measure.latency import MEANING
from edgefer.measure.paired import NonInferiority, class_drops
from edgefer.report.cells import NOT_MEASURED, cells, digits
from edgefer.report.details import PERCENTS, latency_details
from edgefer.report.html import charts, faces, layers, matrices
from edgefer.report.html.style import CSS
from edgefer.report.html.svg import legend
from edgefer.report.markdown import percent
from edgefer.report.report import Report, Row
from edgefer.report.terminal_details import telemetry_line

_TITLES = ("", "p50 ms", "p95 ms", "p99 ms", "images/s", "speed-up", "size", "top-1 %", "drop, points", "agree %")


def page(report: Report, *, force: bool = True, with_images: bool = False) -> str:
    """The HTML document.

    Args:
        report: what to show.
        force: show the latencies of an invalid run too; its reasons stand at the top in any case.
        with_images: show the faces whose answer changed: the page then contains people's pictures, where the data do.

    Raises:
        EdgeferError: pictures are asked for, and the faces are not at hand.
    """
    hide = bool(report.invalid) and not force
    title = f"{report.engines[0].model or report.baseline.name} on {Path(report.data).name}"
    body = "\n".join(_sections(report, title, hide, with_images))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _sections(report: Report, title: str, hide: bool, with_images: bool) -> Iterator[str]:
    yield f'<h1>{escape(title)}</h1>\n<p class="soft">{escape(_setting(report))}</p>'
    yield from (f'<p class="note bad"><b>invalid:</b> {escape(reason)}</p>' for reason in report.invalid)
    if hide:
        yield '<p class="note bad">Latencies of an invalid run are left out.</p>'
    yield from (f'<p class="note"><b>warning:</b> {escape(warning)}</p>' for warning in report.warnings)
    yield _table(_TITLES, [list(_cells(row, report, hide)) for row in report.rows], kind="stack")
    yield '<p class="soft">Small: calls timed; 95 % intervals (bootstrap over rounds, Wilson, Tango paired).</p>'
    yield from _margins(report)
    if not hide and charts.timed(report.rows):
        yield from _latency(report)
    yield from _accuracy(report)
    yield from _layers(report)
    if with_images:
        yield '<h2 id="faces">Faces whose answer changed</h2>'
        for row in report.engines:
            yield f"<h3>{escape(row.name)}</h3>{faces.changed_faces(report, row)}"
    yield from _environment(report)


def _setting(report: Report) -> str:
    settings = report.settings
    parts = [f"{report.baseline.predictions.n:,} faces", f"batch {report.batch}"]
    parts.append(f"{report.threads} thread{'s' if report.threads > 1 else ''}")
    parts.append(f"a call is: {MEANING[settings.scope]}")
    parts.append(str(report.environment.get("board") or report.environment.get("cpu") or "unknown processor"))
    return " · ".join(parts)


def _cells(row: Row, report: Report, hide: bool) -> Iterator[str]:
    yield f"<b>{escape(row.name)}</b>{'<small>baseline</small>' if row is report.baseline else ''}"
    for value, doubt in cells(row, report, hide=hide, percentiles=("p50", "p95", "p99")):
        yield f"{value}<small>{doubt}</small>" if doubt else value


def _margins(report: Report) -> Iterator[str]:
    for row in report.engines:
        if row.paired is not None:
            found = NonInferiority.of(row.paired, report.settings.margin_pp)
            verdict = f'<span class="verdict {found.verdict.value}">{found.verdict.value}</span>'
            yield f"<p>{verdict} <b>{escape(row.name)}</b>: {escape(found.sentence())}</p>"


def _latency(report: Report) -> Iterator[str]:
    yield '<h2 id="latency">Latency</h2>' + legend([row.name for row in report.rows])
    parts = [("How often each call took how long", charts.histogram(report.rows))]
    parts.append(("Share of calls that took at most so long", charts.cumulative(report.rows)))
    front = charts.pareto(report.rows)
    parts += [("Accuracy against latency", front)] if front else []
    yield _grid(parts)
    yield f"<h3>Percentiles, ms, with 95 % intervals</h3>{_percentiles(report)}"


def _percentiles(report: Report) -> str:
    """A line a network; what the samples do not carry is a dash."""
    rows = [(row, row.latency, latency_details(row) or {}) for row in report.rows if row.latency is not None]
    titles = ["", *(f"p{share:g}" for share in PERCENTS), "mean", "variation", "calls"]
    paced, fed = any(row.pace for row, _, _ in rows), any(row.joules for row, _, _ in rows)
    titles += ["missed", "jitter"] if paced else []
    titles += ["mJ an image"] if fed else []
    on_gpu = any(row.gpu for row, _, _ in rows)
    titles += ["to the GPU", "on it", "back"] if on_gpu else []
    lines = []
    for row, latency, found in rows:
        cells = [f"<b>{escape(row.name)}</b>", *(_estimate(found["percentiles"].get(f"{p:g}")) for p in PERCENTS)]
        cells += [digits(latency.mean), f"{percent(latency.variation)} %", f"{latency.n:,}"]
        if paced:
            pace = row.pace
            cells += [f"{pace.misses} of {pace.frames}", f"{pace.jitter_ms:.2g}"] if pace else [NOT_MEASURED] * 2
        if fed:
            cells.append(NOT_MEASURED if row.joules is None else f"{1e3 * row.joules[1]:.3g}")
        if on_gpu:
            steps = (None,) * 3 if row.gpu is None else (row.gpu.upload, row.gpu.compute, row.gpu.download)
            cells += map(digits, steps)
        lines.append(cells)
    return _table(titles, lines, kind="stack")


def _estimate(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return NOT_MEASURED
    low, high = found["ci95"]
    return f"{digits(found['ms'])}<small>{digits(low)}…{digits(high)}</small>"


def _accuracy(report: Report) -> Iterator[str]:
    yield '<h2 id="accuracy">Accuracy</h2>'
    base = report.baseline.predictions
    lines = []
    for row in report.rows:
        kl = NOT_MEASURED if row is report.baseline else f"{kl_divergence(base, row.predictions):.2g}"
        shares = (macro_f1(row.predictions), calibration_error(row.predictions))
        lines.append([f"<b>{escape(row.name)}</b>", *(f"{100 * share:.2f}" for share in shares), kl])
    yield _table(("", "macro-F1 %", "ECE %", "KL, nats"), lines, kind="stack")
    parts = []
    for i, row in enumerate(report.engines, start=1):
        drops = class_drops(base, row.predictions)
        parts.append((f"{row.name}: recall lost, class by class", charts.forest(drops, i, report.settings.margin_pp)))
        parts.append((row.name, _class_table(row)))
    yield _grid(parts)
    yield (
        '<p class="soft">ECE: expected calibration error. Intervals of one network hold for all its classes together '
        "with 95 % (Tango, Šidák); a large dot: a difference is seen.</p>"
    )
    yield (
        '<h2 id="confusion">Confusion</h2><p class="soft">Rows are the truth, columns the answers. In what changed, '
        "blue is better (more right answers, fewer wrong ones) and red is worse.</p>"
    )
    before = base.confusion()
    parts = [(report.baseline.name, matrices.confusion(before, base.classes))]
    parts.append((report.baseline.name, _class_table(report.baseline)))
    for row in report.engines:
        now = row.predictions.confusion()
        parts.append((row.name, matrices.confusion(now, base.classes)))
        changed = matrices.difference(np.asarray(now - before, dtype=np.int64), base.classes)
        parts.append((f"{row.name}: what changed", changed))
    yield _grid(parts)


def _class_table(row: Row) -> str:
    lines = [
        [escape(score.name), f"{score.n:,}", *(percent(value) for value in (score.precision, score.recall, score.f1))]
        for score in class_scores(row.predictions)
    ]
    return _table(("class", "faces", "precision %", "recall %", "F1 %"), lines)


def _layers(report: Report) -> Iterator[str]:
    known = [row for row in report.engines if row.layers]
    if known:
        yield '<h2 id="layers">Layer by layer</h2>' + layers.layer_key()
    for row in known:
        heading = f"<h3>{escape(row.name)}</h3><p>{escape(layers.counted(row.layers))}, from input to output:</p>"
        yield heading + layers.layer_map(row.layers)


def _environment(report: Report) -> Iterator[str]:
    found = report.environment
    packages = ", ".join(f"{name} {version}" for name, version in (found.get("packages") or {}).items())
    memory = found.get("memory_bytes")
    versions = ", ".join(f"{r.name}: {r.runtime} {r.runtime_version}" for r in report.rows if r.runtime_version)
    switches = report.settings.to_dict()
    variables = " ".join(f"{name}={value}" for name, value in switches.pop("variables").items())
    settings = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in switches.items() if value is not None)
    rows = (
        ("processor", found.get("cpu")),
        ("board", found.get("board")),
        ("cores", found.get("cores")),
        ("instructions", " ".join(found.get("instruction_set") or ())),
        ("governor", found.get("governor")),
        ("memory", None if memory is None else f"{memory / 1e9:.1f} GB"),
        ("system", found.get("os")),
        ("Python", found.get("python")),
        ("packages", packages),
        ("runtimes", versions),
        ("faces", f"{Path(report.data).name}, SHA-256 {report.baseline.predictions.faces_sha256[:16]}…"),
        ("watched", telemetry_line(report) if report.telemetry else None),
        ("settings", settings),
        ("variables", variables),
    )
    cells = [[title, escape(str(value))] for title, value in rows if value]
    yield '<h2 id="environment">Measured on</h2>' + _table((), cells, kind="left")


def _grid(parts: Sequence[tuple[str, str]]) -> str:
    cards = "".join(f'<div class="card"><h3>{escape(title)}</h3>{content}</div>' for title, content in parts)
    return f'<div class="grid">{cards}</div>'


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    named = [f' data-title="{escape(title)}"' if title and kind == "stack" else "" for title in titles or [""] * 2]
    lines = "".join(
        f"<tr>{''.join(f'<td{name}>{cell}</td>' for name, cell in zip(named, row, strict=True))}</tr>" for row in rows
    )
    start = f"<thead><tr>{head}</tr></thead>" if titles else ""
    return f'<div class="wide"><table class="{kind}">{start}<tbody>{lines}</tbody></table></div>'
