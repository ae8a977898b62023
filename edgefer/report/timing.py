"""Timing all classifiers of a report, watched, and whether what came out can be believed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from edgefer.data import FaceSet
from edgefer.engines.classifier import Classifier
from edgefer.measure.environment import Usage, others_since, too_busy
from edgefer.measure.latency import GpuTimes, Interleaved, caller, gpu_times, interleave, timed_batches, watched
from edgefer.measure.pacing import BLOCK_FRAMES, MIN_BLOCKS, FrameRate, Pace, pace
from edgefer.measure.telemetry import Recorder, Recording
from edgefer.progress import announce, progress
from edgefer.report.report import CALLS_A_TURN, BenchSettings, Energy

NOTABLE_DRIFT = 0.10
MIN_ROUNDS = 10
_AT_ONCE = 1e-9  # seconds: only the rounds count
ENERGY_SECONDS = 2.0
"""How long each runner is called without a pause where the machine can tell energy; several readings long."""


@dataclass(frozen=True, eq=False)
class Timed:
    """What timing brought.

    Attributes:
        timing: all samples.
        paces: name → how it kept up; empty unless the scope is ``paced``.
        energies: name → energy of an image; empty where the machine cannot tell.
        gpu_ms: name → what its calls took on the GPU; only engines whose runtime times them.
        telemetry: see ``Recording.summary``; None if nothing was watched.
        invalid: reasons not to believe the latencies.
        warnings: what limits them.
    """

    timing: Interleaved
    paces: Mapping[str, Pace]
    energies: Mapping[str, Energy]
    gpu_ms: Mapping[str, GpuTimes]
    telemetry: dict[str, Any] | None
    invalid: tuple[str, ...]
    warnings: tuple[str, ...]


def time_all(
    classifiers: Mapping[str, Classifier], faces: FaceSet, settings: BenchSettings, cores: int, *, telemetry: bool
) -> Timed:
    """Time every classifier on real faces; ``cores`` are those that this process may use."""
    runners = {
        name: watched(classifier, caller(classifier, timed_batches(classifier, faces, settings.batch), settings.scope))
        for name, classifier in classifiers.items()
    }
    announce(f"timing {', '.join(runners)}: {_how_long(settings)}, batch {settings.batch}, threads {settings.threads}")
    with ExitStack() as opened:
        recorder = opened.enter_context(Recorder()) if telemetry else None
        start, before = time.monotonic(), Usage.now()
        timing, paces = _measure(runners, settings)
        gpu = gpu_times(runners, timing)
        others, end = others_since(before), time.monotonic()
        recording = None if recorder is None else recorder.recording().between(start, end)
        energies = (
            {} if recorder is None or recording is None else _energies(runners, settings.batch, recorder, recording)
        )
    throttled = () if recording is None else tuple(recording.throttled())
    return Timed(
        timing=timing,
        paces=paces,
        energies=energies,
        gpu_ms=gpu,
        telemetry=None if recording is None else recording.summary(),
        invalid=(*throttled, *shared_cores(cores, others), *unsteady(timing)),
        warnings=(*too_many_threads(cores, settings.threads), *unsettled(timing)),
    )


def _how_long(settings: BenchSettings) -> str:
    if settings.iterations is not None:
        return f"{settings.iterations:,} calls each"
    if settings.scope == "paced":
        frames = MIN_BLOCKS * BLOCK_FRAMES
        return f"{settings.seconds:g} s, or {frames} frames of each where that takes longer, {settings.fps:g} a second"
    return f"{settings.seconds:g} s"


def _measure(
    runners: Mapping[str, Callable[[], object]], settings: BenchSettings
) -> tuple[Interleaved, Mapping[str, Pace]]:
    if settings.scope == "paced":
        paced = pace(
            runners,
            FrameRate(settings.fps, settings.deadline_ms),
            seconds=settings.seconds,
            frames=settings.iterations,
            warm_up_seconds=settings.warm_up,
            seed=settings.seed,
        )
        return paced.timing, paced.paces
    counted = settings.iterations is not None
    rounds = MIN_ROUNDS if settings.iterations is None else -(-settings.iterations // CALLS_A_TURN)
    with progress("timing", None if counted else settings.seconds, quiet=True) as tick:
        timing = interleave(
            runners,
            seconds=_AT_ONCE if counted else settings.seconds,
            min_rounds=rounds,
            calls=CALLS_A_TURN,
            warm_up_seconds=settings.warm_up,
            seed=settings.seed,
            tick=tick,
        )
    return timing, {}


def _energies(
    runners: Mapping[str, Callable[[], object]], batch: int, recorder: Recorder, seen: Recording
) -> dict[str, Energy]:
    """Joules an image of each runner alone: interleaved turns are shorter than the readings' interval."""
    if not any(reading.get("power") for reading in seen.readings):
        return {}
    stretches = {}
    for name, run in runners.items():
        start, calls = time.monotonic(), 0
        while time.monotonic() < start + ENERGY_SECONDS:
            run()
            calls += 1
        stretches[name] = (start, time.monotonic(), calls)
    time.sleep(2 * seen.interval)  # the last stretch is whole once a later reading is there
    recording = recorder.recording()
    found = {}
    for name, (start, end, calls) in stretches.items():
        energy = recording.joules(start, end)
        if energy is not None:
            found[name] = Energy(energy[0], energy[1] / (calls * batch))
    return found


def shared_cores(cores: int, others: float | None) -> Iterator[str]:
    """The reason, if other processes used the cores."""
    if too_busy(others):
        yield f"other processes used {others:.2f} of {cores} cores while this was timed: latencies may be too high"


def unsteady(timing: Interleaved) -> Iterator[str]:
    """Reasons: what drifted, and what was timed too few times."""
    for name, latency in timing.latencies().items():
        change = timing.drift(name) - 1
        if abs(change) > NOTABLE_DRIFT:
            how = "slower" if change > 0 else "faster"
            yield f"{name} became {abs(change):.0%} {how} while it was timed (throttling, or other load)"
        if latency.p95 is None:
            yield f"{name} was timed {latency.n} times, too few for a p95 (200): time it longer"


def unsettled(timing: Interleaved) -> Iterator[str]:
    """What had not settled when its warm-up ended."""
    for name in timing.unsettled:
        yield f"{name} had not settled at the end of its warm-up: its first samples may be too high"


def too_many_threads(cores: int, threads: int) -> Iterator[str]:
    """Whether more threads were asked for than there are cores."""
    if threads > cores:
        yield f"{threads} threads were asked for and this process may use {cores} cores"
