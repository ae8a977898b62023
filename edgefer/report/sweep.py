"""One engine over batches, threads and callers: where its throughput lies, and what that costs in latency."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from edgefer.data import FaceSet, aligned, open_dataset
from edgefer.engines.load import load_engine
from edgefer.errors import EdgeferError
from edgefer.limits import check_whole
from edgefer.measure.disturbance import MARK, Disturbed, LoadMeter, hit_by
from edgefer.measure.environment import available_cores, describe_environment
from edgefer.measure.latency import MEANING, Latency, caller, closed_loop, timed_batches
from edgefer.progress import progress
from edgefer.report.terminal import as_printable, digits
from edgefer.report.timing import variables


@dataclass(frozen=True, eq=False)
class Point:
    """One combination of a sweep."""

    batch: int
    threads: int
    concurrency: int
    latency: Latency
    images_per_s: float
    settled: bool
    disturbed: Disturbed

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; latencies of one call, ms."""
        return {
            "batch": self.batch,
            "threads": self.threads,
            "concurrency": self.concurrency,
            "latency_ms": self.latency.to_dict(),
            "images_per_s": self.images_per_s,
            "settled": self.settled,
            "disturbed": {
                **{f"p{percent}": list(self.disturbed.percentile(percent)) for percent in ("50", "90", "95", "99")},
                "images_per_s": list(self.disturbed.tail),
            },
        }


@dataclass(frozen=True, eq=False)
class Sweep:
    """All points of one engine, and what limits them."""

    engine: str
    scope: str
    seconds: float
    points: tuple[Point, ...]
    environment: dict[str, Any]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "engine": self.engine,
            "scope": self.scope,
            "seconds_a_point": self.seconds,
            "settings": {
                "a_call_is": MEANING[self.scope],
                "callers": "in a closed loop, each with a session of its own",
                "clock": "time.perf_counter_ns",
                "garbage_collection": "off while timing",
                "variables": variables(),
            },
            "points": [point.to_dict() for point in self.points],
            "environment": {**self.environment, "warnings": list(self.warnings)},
        }


def run_sweep(
    engine: str | os.PathLike[str],
    data: str | os.PathLike[str] | FaceSet,
    *,
    batches: Sequence[int] = (1, 4, 16),
    threads: Sequence[int] = (1,),
    concurrency: Sequence[int] = (1,),
    scope: str = "e2e",
    seconds: float = 2.0,
) -> Sweep:
    """Time every combination for ``seconds``, callers in a closed loop, on real faces.

    Raises:
        EdgeferError: a value out of its bounds, the engine or the data cannot be opened, or ``paced`` was asked for.
    """
    if scope == "paced":
        raise EdgeferError("a sweep has no pace: its callers wait for nothing", hint="--scope compute or e2e")
    for name, values in (("batches", batches), ("threads", threads), ("concurrency", concurrency)):
        if not values:
            raise EdgeferError(f"{name} is an empty list", hint=f"--{name} 1,2")
        for value in values:
            check_whole(f"--{name}", value, "batch" if name == "batches" else "threads")
    faces = (data if isinstance(data, FaceSet) else open_dataset(data)).picked_or("test")
    environment = describe_environment()
    points = []
    combinations = list(itertools.product(threads, concurrency, batches))
    with progress("sweeping", len(combinations)) as advance:
        for asked in combinations:
            points.append(_point(engine, faces, *asked, scope, seconds))
            advance()
    warnings = (*_crowded(points), *_unsettled(points))
    return Sweep(Path(engine).name, scope, seconds, tuple(points), environment, warnings)


def print_sweep(sweep: Sweep, console: Console | None = None) -> None:
    """Print a line for each point on stdout, or on ``console``; ``best`` marks the highest throughput."""
    out = Console() if console is None else console
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("batch", "threads", "callers", "p50 ms", "p95 ms", "p99 ms", "images/s", ""):
        table.add_column(title, justify="right")
    best = max(sweep.points, key=lambda point: point.images_per_s)
    for point in sweep.points:
        shape = [str(value) for value in (point.batch, point.threads, point.concurrency)]
        times = [
            f"{MARK if value is not None and point.disturbed.percentile(percent) else ''}{digits(value)}"
            for percent, value in (("50", point.latency.p50), ("95", point.latency.p95), ("99", point.latency.p99))
        ]
        rate = f"{MARK if point.disturbed.tail else ''}{point.images_per_s:,.0f}"  # of all calls, the slow ones too
        cells = (*shape, *times, rate, "best" if point is best else "")
        table.add_row(*(as_printable(cell, out) for cell in cells))
    out.print(table)
    for reason in _in_few_lines([reason for point in sweep.points for reason in point.disturbed.reasons]):
        out.print(f"{MARK} disturbed: {reason}", markup=False, highlight=False, soft_wrap=True)
    for warning in sweep.warnings:
        out.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)


def _point(
    engine: str | os.PathLike[str],
    faces: FaceSet,
    threads: int,
    callers: int,
    batch: int,
    scope: str,
    seconds: float,
) -> Point:
    with ExitStack() as opened:
        classifiers = [opened.enter_context(load_engine(engine, threads)) for _ in range(callers)]
        ready = timed_batches(classifiers[0], aligned(faces, classifiers[0].contract.labels), batch)
        meter = LoadMeter()
        load = closed_loop([caller(classifier, ready, scope) for classifier in classifiers], seconds)
    disturbed = hit_by(meter.read(), threads * callers)
    return Point(batch, threads, callers, load.latency, load.calls_per_s * batch, load.settled, disturbed)


def _in_few_lines(reasons: Sequence[str]) -> Iterator[str]:
    """One line for reasons that differ in numbers and names of processes only: one of them, and how many are alike."""
    alike: dict[str, list[str]] = {}
    for reason in reasons:
        alike.setdefault(re.sub(r" \(.*\)|[\d.]+", "", reason), []).append(reason)
    for group in alike.values():
        more = len(group) - 1
        yield group[0] + (f"; much the same in {more} more combination{'s' * (more > 1)}" if more else "")


def _unsettled(points: Sequence[Point]) -> Iterator[str]:
    shapes = [
        f"batch {point.batch}, threads {point.threads}, callers {point.concurrency}"
        for point in points
        if not point.settled
    ]
    if shapes:
        yield f"not settled at the end of the warm-up, so that first calls may be slower: {'; '.join(shapes)}"


def _crowded(points: Sequence[Point]) -> Iterator[str]:
    cores, threads = available_cores(), max(point.threads * point.concurrency for point in points)
    if threads > cores:
        yield f"up to {threads} threads computed at once and this process may use {cores} cores"
