"""Timing several runtimes in one process without one disturbing the next."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.engines.classifier import Classifier
from edgefer.measure.latency import Interleaved, interleave

REST = 0.08
"""Seconds of sleep when the turn passes from one runtime to another, if there is more than one thread.

Worker threads spin after a call, waiting for the next. With two threads, processor time burnt while the main thread
slept, after one call of mini_xception on two cores of an EPYC: onnxruntime 1.31 39 ms, PyTorch 2.13 (OpenMP) 8 to 11
ms, OpenVINO 2026.4 (TBB) 1.5 ms. So a row that follows onnxruntime would have one core of two for 39 ms, which is all
of a turn of a small network, and the order would decide who is fast. Turning the spinning off would be fair too, but
it is how these runtimes are shipped: so each keeps it during its own turn, and nobody pays for another's. With one
thread there are no workers and nothing spins."""

SETTLE = 0.005
"""Seconds of untimed calls after that, so that clock and caches are back; at least one more is interleave's own."""


@dataclass(frozen=True)
class Effort:
    """How long to time: seconds for all rows together, but at least so many rounds of so many calls a row."""

    seconds: float
    rounds: int
    calls: int


def take_turns(
    engines: Mapping[str, Classifier], batches: list[NDArray[np.uint8]], threads: int, effort: Effort
) -> Interleaved:
    """Time all ``engines`` on ``batches`` in one interleaved run."""
    turn: list[str] = [""]
    runners = {name: _runner(name, engine, batches, turn, threads) for name, engine in engines.items()}
    return interleave(runners, seconds=effort.seconds, min_rounds=effort.rounds, calls=effort.calls)


def _runner(
    name: str, engine: Classifier, batches: list[NDArray[np.uint8]], turn: list[str], threads: int
) -> Callable[[], object]:
    faces = itertools.cycle(batches)

    def run() -> object:
        if turn[0] != name:  # never within a timed call: interleave begins a turn with an untimed one
            turn[0] = name
            if threads > 1:
                time.sleep(REST)
            until = time.perf_counter() + SETTLE
            while time.perf_counter() < until:
                engine.logits(next(faces))
        return engine.logits(next(faces))

    return run


def figures(taken: Interleaved, name: str, batch: int, references: Mapping[str, str]) -> dict[str, Any]:
    """One row: ms, faces a second (batch ÷ median), and how many times faster than each of ``references``."""
    latency = taken.latency(name)
    row: dict[str, Any] = {
        "p50_ms": latency.p50,
        "p95_ms": latency.p95,
        "n": latency.n,
        "images_per_s": None if latency.p50 is None else 1000.0 * batch / latency.p50,
        "drift": taken.drift(name),
    }
    for key, reference in references.items():
        ratio = taken.speedup(reference, name)
        row[key] = {"value": ratio.value, "ci95": list(ratio.ci95)}
    return row
