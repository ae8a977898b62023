"""The page: everything that a report knows, in one file that needs no network and no script.

Its style is for a phone first, then wider, then paper; light or dark as the reader's system is. Width is that of the
page's own container (``@container``), which inside a notebook is the cell and not the window.
"""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from edgefer.errors import EdgeferError
from edgefer.manifest import LayerPrecision, counted_layers
from edgefer.measure.latency import MEANING, Estimate
from edgefer.report import charts
from edgefer.report.markdown import environment_lines, percent
from edgefer.report.report import PERCENTS, Raw, Report, Row
from edgefer.report.svg import legend
from edgefer.report.terminal import NOT_MEASURED, cells, digits, threads_text

ROOT = "edgefer-report"
"""The class that every rule of the style is bound to."""
SHOWN_FACES = 48
"""Maximum number of pictures of one engine."""
TYPES = {"int8": "#009E73", "bf16": "#56B4E9", "fp16": "#E69F00", "fp32": "#9a9a9a"}
_OTHER_TYPE = "#CC79A7"

_TITLES = ("", "p50 ms", "p95 ms", "p99 ms", "images/s", "speed-up", "size", "top-1 %", "drop, points", "agree %")


def page(report: Report, *, with_images: bool = False) -> str:
    """The HTML document.

    Args:
        report: the report to show.
        with_images: show the faces whose answer changed: the page then contains people's pictures, where the data do.

    Raises:
        EdgeferError: pictures are asked for, and the faces are not at hand.
    """
    body = "\n".join(_sections(report, with_images))
    style = f"body{{margin:0}}.{ROOT}{{min-height:100vh}}\n{_scoped(CSS)}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f'<div class="{ROOT}">\n<main class="sheet">\n{body}\n</main>\n</div>\n</body>\n</html>\n'
    )


def fragment(report: Report) -> str:
    """The page's content for inside another page, such as a notebook; its style reaches nothing outside it."""
    body = "\n".join(_sections(report, with_images=False))
    return f'<style>{_scoped(CSS)}</style>\n<div class="{ROOT}">\n<div class="sheet">\n{body}\n</div>\n</div>\n'


def _scoped(css: str) -> str:
    """``css`` with every selector below the class :data:`ROOT`, which ``:host`` stands for."""

    def below(match: re.Match[str]) -> str:
        if match[1]:
            return match[1]
        parts = (part.strip() for part in match[2].split(","))
        return ",".join(f".{ROOT}" if part == ":host" else f".{ROOT} {part}" for part in parts) + "{"

    return re.sub(r"(@[^{}]*\{)|([^{}@]+)\{", below, css)


def _sections(report: Report, with_images: bool) -> Iterator[str]:
    yield f"<h1>{escape(report.title)}</h1>"
    yield from (
        f'<p class="headline {row.outcome.value}">{escape(row.verdict)}</p>' for row in report.engines if row.verdict
    )
    yield f'<p class="soft">{escape(_setting(report))}</p>'
    if report.left_out is not None:
        yield f'<p class="note">{escape(report.left_out.sentence())}</p>'
    yield from (
        f'<p class="note"><span class="disturbed">disturbed, in grey:</span> {escape(reason)}</p>'
        for reason in report.disturbances
    )
    yield from (f'<p class="note"><b>warning:</b> {escape(warning)}</p>' for warning in report.warnings)
    yield _table(_TITLES, [list(_cells(row, report)) for row in report.rows], kind="stack")
    yield '<p class="soft">Small: calls timed; 95 % intervals (bootstrap over rounds, Wilson, Tango paired).</p>'
    yield from _margins(report)
    if any(row.latency for row in report.rows):
        yield from _latency(report)
    yield from _accuracy(report)
    yield from _engines(report)
    if with_images:
        yield '<h2 id="faces">Faces whose answer changed</h2>'
        if report.raw is None:
            raise EdgeferError(
                "the evaluated faces are not at hand, only their results", hint="make the page with `edgefer bench`"
            )
        for place, row in enumerate(report.engines, start=1):
            yield _folded(row, changed_faces(report.raw, place), report)
    yield from _environment(report)


def _setting(report: Report) -> str:
    found, settings = report.environment, report.settings
    parts = [f"{report.baseline.accuracy.n:,} faces", f"batch {settings.batch}", threads_text(report)]
    parts += [
        f"a call is: {MEANING[settings.scope]}",
        *([str(found.get("gpu") or "unknown GPU")] if any(row.device is not None for row in report.rows) else []),
        str(found.get("board") or found.get("cpu") or "unknown processor"),
    ]
    return " · ".join(parts)


def _cells(row: Row, report: Report) -> Iterator[str]:
    about = ", ".join(part for part in (row.how, "baseline" if row is report.baseline else "") if part)
    yield f"<b>{escape(row.name)}</b>{f'<small>{escape(about)}</small>' if about else ''}"
    for cell in cells(row, report, percentiles=("50", "95", "99")):
        yield _greyed(f"{cell.value}<small>{cell.doubt}</small>" if cell.doubt else cell.value, cell.disturbed)


def _greyed(content: str, disturbed: Sequence[str]) -> str:
    """``content`` in grey where a reason disturbed it; pointing at it shows the reasons."""
    return f'<span class="disturbed" title="{escape("; ".join(disturbed))}">{content}</span>' if disturbed else content


def _margins(report: Report) -> Iterator[str]:
    for row in report.engines:
        if row.paired is not None:
            found = row.paired.non_inferiority
            verdict = f'<span class="verdict {found.verdict.value}">{found.verdict.value}</span>'
            yield f"<p>{verdict} <b>{escape(row.name)}</b>: {escape(found.sentence())}</p>"


def _latency(report: Report) -> Iterator[str]:
    yield '<h2 id="latency">Latency</h2>' + legend([row.name for row in report.rows])
    parts = [
        ("How often each call took how long", charts.histogram(report.rows, report.time_axis_ms)),
        ("Share of calls that took at most a given time", charts.cumulative(report.rows, report.time_axis_ms)),
    ]
    front = charts.pareto(report.rows)
    parts += [("Accuracy against latency", front)] if front else []
    yield _grid(parts)
    yield f"<h3>Percentiles, ms, with 95 % intervals</h3>{_percentiles(report)}"


def _percentiles(report: Report) -> str:
    """A line for each network; what the samples do not carry is a dash."""
    rows = [(row, row.latency) for row in report.rows if row.latency is not None]
    titles = ["", *(f"p{share:g}" for share in PERCENTS), "mean", "variation", "calls"]
    paced, fed, on_gpu = (any(getattr(row, name) for row, _ in rows) for name in ("pace", "energy", "gpu_ms"))
    titles += ["missed", "jitter"] if paced else []
    titles += ["mJ an image"] if fed else []
    titles += ["to the GPU", "on it", "back"] if on_gpu else []
    lines = []
    for row, latency in rows:
        median, tail = row.disturbed.median, row.disturbed.tail
        percents = ((f"{p:g}", latency.percentiles.get(f"{p:g}")) for p in PERCENTS)
        line = [
            f"<b>{escape(row.name)}</b>",
            *(_greyed(_estimate(e), row.disturbed.percentile(p)) for p, e in percents),
        ]
        line += [_greyed(digits(latency.mean), tail), _greyed(f"{percent(latency.variation)} %", tail)]
        line.append(f"{latency.n:,}")
        if paced:
            pace = row.pace
            figures = [f"{pace.misses} of {pace.frames}", f"{pace.jitter_ms:.2g}"] if pace else [NOT_MEASURED] * 2
            line += [_greyed(figure, tail) for figure in figures]
        if fed:
            joules = NOT_MEASURED if row.energy is None else f"{1e3 * row.energy.joules_per_image:.3g}"
            line.append(_greyed(joules, tail))
        if on_gpu:
            gpu = row.gpu_ms
            steps = (None,) * 3 if gpu is None else (gpu.upload, gpu.compute, gpu.download)
            line += [_greyed(digits(ms), median) for ms in steps]
        lines.append(line)
    return _table(titles, lines, kind="stack")


def _estimate(found: Estimate | None) -> str:
    if found is None:
        return NOT_MEASURED
    low, high = found.ci95
    return f"{digits(found.value)}<small>{digits(low)}…{digits(high)}</small>"


def _accuracy(report: Report) -> Iterator[str]:
    yield '<h2 id="accuracy">Accuracy</h2>'
    lines = []
    for row in report.rows:
        shares = (row.accuracy.macro_f1, row.accuracy.calibration_error)
        kl = NOT_MEASURED if row.paired is None else f"{row.paired.kl_nats:.2g}"
        lines.append([f"<b>{escape(row.name)}</b>", *(f"{100 * share:.2f}" for share in shares), kl])
    yield _table(("", "macro-F1 %", "ECE %", "KL, nats"), lines, kind="stack")


def _engines(report: Report) -> Iterator[str]:
    """What each engine answers, class by class, and its layers: folded where there are several."""
    yield '<h2 id="engines">Engine by engine</h2>'
    yield (
        '<p class="soft">Intervals of one network hold for all its classes together with 95 % (Tango, Šidák); a large '
        "dot: a difference is seen. Confusion: rows are the truth, columns the answers; in what changed, blue is "
        "better (more right answers, fewer wrong ones) and red is worse.</p>"
    )
    for i, row in enumerate(report.rows):
        parts = []
        if row.paired is not None:
            parts.append(
                ("Recall lost, class by class", charts.forest(row.paired.per_class, i, report.settings.margin_pp))
            )
        parts.append(("Class by class", _class_table(row)))
        parts.append(("Confusion", charts.confusion(row.accuracy.confusion, report.classes)))
        if row.paired is not None:
            changed = charts.confusion_difference(row.paired.confusion_difference, report.classes)
            parts.append(("What changed", changed))
        yield _folded(row, _grid(parts) + _layers(row), report)


def _folded(row: Row, content: str, report: Report) -> str:
    """``content`` below the name of ``row``; open where it is the only engine."""
    about = "baseline" if row is report.baseline else row.how
    unfolded = " open" if len(report.engines) == 1 and row is not report.baseline else ""
    summary = f"<b>{escape(row.name)}</b> <small>{escape(about)}</small>"
    return f"<details{unfolded}><summary>{summary}</summary>{content}</details>"


def _class_table(row: Row) -> str:
    lines = [
        [escape(score.name), f"{score.n:,}", *(percent(value) for value in (score.precision, score.recall, score.f1))]
        for score in row.accuracy.per_class
    ]
    return _table(("class", "faces", "precision %", "recall %", "F1 %"), lines)


def _layers(row: Row) -> str:
    if not row.layers:
        return ""
    key = (f'<li><span class="key" style="background:{fill}"></span>{t.upper()}</li>' for t, fill in TYPES.items())
    told = f"{escape(counted_layers(row.layers))}, from input to output:"
    return f'<h3>Layer by layer</h3><ul class="legend">{"".join(key)}</ul><p>{told}</p>{layer_map(row.layers)}'


def layer_map(layers: Sequence[LayerPrecision]) -> str:
    """One strip, a block for each layer in the colour of what it computes in; hatched where another type was asked."""
    blocks = []
    for layer in layers:
        as_asked = layer.asked == layer.got
        told = f"{layer.layer}, {layer.op}: {layer.got}{'' if as_asked else f' (asked for: {layer.asked})'}"
        blocks.append(
            f'<span class="layer{"" if as_asked else " other"}" '
            f'style="background-color:{TYPES.get(layer.got, _OTHER_TYPE)}" title="{escape(told)}"></span>'
        )
    return f'<div class="layers" role="img" aria-label="{escape(counted_layers(layers))}">{"".join(blocks)}</div>'


def changed_faces(raw: Raw, place: int) -> str:
    """The first faces whose answer in row ``place`` differs from the baseline's, with the truth and both answers."""
    before, after = raw.predictions[0], raw.predictions[place]
    changed = np.flatnonzero(before.answers != after.answers)
    figures = []
    for index in changed[:SHOWN_FACES]:
        face = raw.faces.images([int(index)])[0]
        truth, was, is_now = (after.classes[values[index]] for values in (after.labels, before.answers, after.answers))
        kind = "better" if is_now == truth else "worse" if was == truth else "moved"
        source = base64.b64encode(png(face)).decode("ascii")
        caption = f"{escape(was)} → <b>{escape(is_now)}</b><br>is {escape(truth)}"
        figures.append(
            f'<figure class="{kind}"><img alt="{escape(truth)}" src="data:image/png;base64,{source}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    if not figures:
        return "<p>No answer changed.</p>"
    more = f", the first {SHOWN_FACES} are shown" if len(changed) > SHOWN_FACES else ""
    note = f"<p>{len(changed):,} of {after.n:,} answers changed{more}: was → <b>is now</b>.</p>"
    return f'{note}<div class="faces">{"".join(figures)}</div>'


def png(face: NDArray[np.uint8]) -> bytes:
    """uint8 H×W×C, C = 1 or 3, as a PNG file (W3C PNG specification, sections 5 and 11)."""
    height, width, channels = face.shape
    lines = np.hstack([np.zeros((height, 1), np.uint8), face.reshape(height, width * channels)])  # filter 0: none
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _environment(report: Report) -> Iterator[str]:
    found = report.environment
    told = dict(environment_lines(report))
    memory = found.get("memory_bytes")
    switches = {key: value for key, value in report.settings.to_dict().items() if value is not None}
    rows = (
        *((title, told[title]) for title in ("processor", "board", "GPU", "GPU driver", "cores", "instructions")),
        ("governor", found.get("governor")),
        ("memory", None if memory is None else f"{memory / 1e9:.1f} GB"),
        *((title, told[title]) for title in ("system", "Python", "packages")),
        ("runtimes", ", ".join(f"{r.name}: {r.runtime} {r.runtime_version}" for r in report.rows if r.runtime_version)),
        ("faces", f"{report.data}, SHA-256 {report.faces_sha256[:16]}…"),
        ("watched", told["watched"]),
        ("settings", ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in switches.items())),
        ("variables", " ".join(f"{name}={value}" for name, value in report.variables.items())),
    )
    lines = [[title, escape(str(value))] for title, value in rows if value]
    yield '<h2 id="environment">Measured on</h2>' + _table((), lines, kind="left")


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


CSS = """
:host{--ink:#1c1f24;--soft:#5d6470;--faint:#8a919c;--line:#dfe2e7;--paper:#fff;--card:#f6f7f9;--good:#00795a;--bad:#b23b00;--open:#8a6100}
@media (prefers-color-scheme:dark){:host{--ink:#e7e9ec;--soft:#a2a9b4;--faint:#757c87;--line:#3a3f47;
--paper:#16181c;--card:#1f2228;--good:#3fc49a;--bad:#ff8a4c;--open:#e6b84a}}
*{box-sizing:border-box}
:host{container-type:inline-size;background:var(--paper);color:var(--ink);text-align:left;
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
.sheet{max-width:1320px;margin:0 auto;padding:16px}
h1{font-size:1.5rem;line-height:1.2;margin:.4em 0 .2em;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2em 0 .5em;padding-bottom:.2em;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:1.2em 0 .3em}
p{margin:.4em 0;overflow-wrap:anywhere}
.headline{font-size:1.3rem;font-weight:650;line-height:1.25}
.soft,figcaption,small{color:var(--soft)}
.disturbed,.disturbed small{color:var(--faint)}
.note{padding:.5em .8em;border-left:4px solid var(--open);background:var(--card);margin:.5em 0}
.note.bad{border-color:var(--bad)}
.wide{overflow-x:auto;margin:.5em 0}
table{border-collapse:collapse;width:100%;color:var(--ink);font-variant-numeric:tabular-nums;font-size:.92rem}
th,td{padding:.35em .6em;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:top}
th{color:var(--soft);font-weight:600}
th:first-child,td:first-child{text-align:left}
td small{display:block;font-size:.8em}
.stack td:first-child{white-space:normal;overflow-wrap:anywhere;min-width:8em}
.left td{text-align:left;white-space:normal;overflow-wrap:anywhere}.left td:first-child{color:var(--soft);width:9em}
.grid{display:grid;grid-template-columns:minmax(0,1fr);gap:16px}
.card{background:var(--card);border-radius:8px;padding:12px;min-width:0}
.card h3{margin-top:0}
.grid>.card:last-child:nth-child(odd){grid-column:1/-1}
svg{display:block;width:100%;max-width:560px;height:auto;margin:0 auto;font:13px system-ui,sans-serif}
svg text{fill:var(--soft)}svg text.count{fill:var(--ink)}
svg text.name{fill:var(--ink);font-weight:600;paint-order:stroke;
stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
svg .grid{stroke:var(--line);stroke-width:1}svg .floor{stroke:var(--soft);stroke-width:1}
svg .zero{stroke:var(--ink);stroke-width:1.5}
svg .curve{fill:none;stroke-width:2}svg .front{fill:none;stroke-width:1;stroke-dasharray:4 3;opacity:.6}
svg .whisker{stroke-width:2.5}svg .level{stroke-width:1.5;stroke-dasharray:6 4}
svg .cell{stroke:var(--line);stroke-width:.6}
.legend li{min-width:0;overflow-wrap:anywhere}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 16px;padding:0;margin:.4em 0;font-size:.9rem}
.key{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px}
details{border:1px solid var(--line);border-radius:8px;margin:.6em 0;padding:0 12px}
summary{cursor:pointer;padding:.6em 0;overflow-wrap:anywhere}details[open]{padding-bottom:12px}
.verdict{font-weight:700}.PASS{color:var(--good)}.FAIL{color:var(--bad)}.INCONCLUSIVE{color:var(--open)}
.layers{display:flex;flex-wrap:wrap;gap:2px;margin:.4em 0}
.layer{width:14px;height:22px;border-radius:2px}
.layer.other{background-image:repeating-linear-gradient(45deg,transparent 0 3px,rgba(0,0,0,.45) 3px 5px)}
.faces{display:grid;grid-template-columns:repeat(auto-fill,minmax(88px,1fr));gap:10px}
.faces figure{margin:0;border-top:4px solid var(--soft);font-size:.78rem;line-height:1.3}
.faces img{width:100%;image-rendering:pixelated;display:block;margin-bottom:3px}
.faces .better{border-color:var(--good)}.faces .worse{border-color:var(--bad)}
@media screen{
@container (max-width:859px){.sheet{padding:10px}.card{padding:8px 6px}details{padding:0 6px}
th,td{padding:.3em .3em}table{font-size:.85rem}.stack thead{display:none}
.stack tr{display:grid;grid-template-columns:repeat(auto-fill,minmax(96px,1fr));
border-bottom:1px solid var(--line);padding:.4em 0}
.stack td{border:0;text-align:left;padding:.2em .4em;white-space:normal}.stack td:first-child{grid-column:1/-1}
.stack td[data-title]::before{content:attr(data-title);display:block;font-size:.8em;color:var(--soft)}}
@container (min-width:860px){.grid{grid-template-columns:repeat(2,minmax(0,1fr))}.sheet{padding:24px 32px}}
@container (min-width:860px) and (max-width:1199px){.stack{font-size:.84rem}.stack th,.stack td{padding:.3em .35em}}
}
@media print{:host{--ink:#000;--soft:#444;--faint:#777;--line:#ccc;--paper:#fff;--card:#fff;
--good:#00795a;--bad:#b23b00;--open:#8a6100}
:host{font-size:10.5pt}.sheet{max-width:none;padding:0}details::details-content{content-visibility:visible;block-size:auto}.card,figure,tr,svg{break-inside:avoid}h2,h3,h2+.soft{break-after:avoid}
.card{border:1px solid var(--line)}.wide{overflow:visible}table{font-size:8.5pt}th,td{padding:.25em .4em}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}.grid{grid-template-columns:repeat(2,minmax(0,1fr))}
.faces{grid-template-columns:repeat(8,1fr)}}
"""
