"""What stands below a benchmark's table: whether a margin holds, each class, pace, energy, and what was watched."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from edgefer.measure.accuracy import calibration_error, kl_divergence, macro_f1
from edgefer.measure.latency import GpuTimes
from edgefer.measure.paired import ClassDrop, NonInferiority, class_drops
from edgefer.report.cells import digits
from edgefer.report.report import Report, Row
from edgefer.report.terminal import as_printable


def print_details(report: Report, console: Console | None = None) -> None:
    """Print them on stdout, or on ``console``."""
    target = Console() if console is None else console
    for line in detail_lines(report):
        target.print(as_printable(line, target), markup=False, emoji=False, highlight=False, soft_wrap=True)


def detail_lines(report: Report) -> Iterator[str]:
    """The lines, for people."""
    yield ""
    for row in report.rows:
        yield f"{row.name}: {_accuracy(row, report)}"
        if row.paired is not None:
            yield f"  {NonInferiority.of(row.paired, report.settings.margin_pp).sentence()}"
            yield f"  {_classes(class_drops(report.baseline.predictions, row.predictions))}"
        yield from (f"  {line}" for line in _speed(row, report))
    if report.telemetry is not None:
        yield f"watched: {telemetry_line(report)}"


def _accuracy(row: Row, report: Report) -> str:
    parts = [f"macro-F1 {100 * macro_f1(row.predictions):.2f} %"]
    parts.append(f"calibration error {100 * calibration_error(row.predictions):.2f} %")
    if row.paired is not None:
        parts.append(f"KL {kl_divergence(report.baseline.predictions, row.predictions):.2g} nats")
    return ", ".join(parts)


def _classes(drops: tuple[ClassDrop, ...]) -> str:
    known = [(drop.drop_pp, drop) for drop in drops if drop.drop_pp is not None and drop.ci_pp is not None]
    seen = [f"{drop.name} {points:+.2f} [{_ends(drop)}]" for points, drop in known if drop.seen]
    if seen:
        return f"classes whose recall changed (intervals hold for all classes together): {', '.join(seen)}"
    points, least_known = max(known, key=lambda pair: _width(pair[1]))
    return (
        "no class's recall is seen to change; least is known of "
        f"{least_known.name}: {points:+.2f} [{_ends(least_known)}] points lost"
    )


def _width(drop: ClassDrop) -> float:
    return 0.0 if drop.ci_pp is None else drop.ci_pp[1] - drop.ci_pp[0]


def _ends(drop: ClassDrop) -> str:
    return "–" if drop.ci_pp is None else "{:+.2f}, {:+.2f}".format(*drop.ci_pp)


def _speed(row: Row, report: Report) -> Iterator[str]:
    if row.pace is not None:
        pace = row.pace
        yield (
            f"at {pace.fps:g} frames a second: {pace.misses} of {pace.frames} answers missed {pace.deadline_ms:.3g} "
            f"ms, {pace.dropped} frames dropped, jitter {pace.jitter_ms:.2g} ms"
        )
    if row.latency is not None and row.latency.variation is not None and not report.invalid:
        tail = f", p99.9 {row.latency.p999:.3g} ms" if row.latency.p999 is not None else ""
        yield f"{row.latency.n:,} calls vary by {row.latency.variation:.0%} of their mean{tail}"
    if row.gpu is not None and not report.invalid:
        yield gpu_line(row.gpu)
    if row.joules is not None:
        yield f"{1000 * row.joules[1]:.3g} mJ an image ({row.joules[0]}, with what else it feeds)"


def gpu_line(times: GpuTimes) -> str:
    """What calls took on the GPU, on one line."""
    steps = f"{digits(times.upload)} ms to it, {digits(times.compute)} ms computing, {digits(times.download)} ms back"
    return f"on the GPU: {steps} (medians of {times.calls:,} calls, {times.replayed:,} replayed as a CUDA graph)"


def telemetry_line(report: Report) -> str:
    """What a second process saw, on one line."""
    seen = report.telemetry or {}
    parts = [f"{seen['cpu_load']:.2f} cores busy"] if seen.get("cpu_load") is not None else []
    if seen.get("mhz"):
        parts.append(f"{seen['mhz']['median']:,.0f} MHz")
    if seen.get("celsius"):
        hottest = seen["celsius"]
        parts.append(f"{hottest['zone']} {hottest['first']:.0f} to {hottest['max']:.0f} °C")
    if seen.get("watts") is not None:
        parts.append(f"{seen['watts']:.1f} W ({seen['power_source']})")
    if seen.get("peak_rss_bytes"):
        parts.append(f"peak memory {seen['peak_rss_bytes'] / 1e6:,.0f} MB")
    if seen.get("untold"):
        names = {"mhz": "clock", "celsius": "temperature", "watts": "power"}
        parts.append(f"not told by this machine: {', '.join(names.get(key, key) for key in seen['untold'])}")
    return ", ".join(parts)
