"""Settings of a benchmark, its timing with what is watched meanwhile, and what disturbed it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

from edgefer.data import FaceSet
from edgefer.engines.classifier import Classifier
from edgefer.engines.load import parse_forms
from edgefer.engines.session import TimedSession
from edgefer.errors import EdgeferError
from edgefer.limits import check_whole
from edgefer.measure.disturbance import Disturbed, LoadMeter, OtherLoad, disturbances
from edgefer.measure.latency import (
    MEANING,
    TIMED_FACES,
    GpuTimes,
    Interleaved,
    caller,
    check_scope,
    gpu_times,
    interleave,
    timed_batches,
    watched,
)
from edgefer.measure.pacing import BLOCK_FRAMES, MIN_BLOCKS, FrameRate, Pace, pace
from edgefer.measure.paired import check_margin
from edgefer.measure.telemetry import Recorder, Recording
from edgefer.progress import announce, progress

CALLS_A_TURN = 5
MARGIN_PP = 0.5
MIN_ROUNDS = 10
_AT_ONCE = 1e-9  # seconds: only the rounds count
ENERGY_SECONDS = 2.0
"""Seconds of calls without a pause per runner, where the machine can measure energy; several readings long."""
_VARIABLES = (
    *("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_AFFINITY", "MKL_NUM_THREADS"),
    *("OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX", "ONEDNN_MAX_CPU_ISA", "CUDA_VISIBLE_DEVICES"),
)


@dataclass(frozen=True)
class BenchSettings:
    """Settings of a benchmark's timing and comparison.

    Attributes:
        batch: faces a timed call.
        threads: threads that each runtime is given.
        scope: extent of a timed call: ``compute``, ``e2e`` or ``paced``; see ``edgefer.measure.latency``.
        seconds: duration of the timing, all runners together.
        iterations: timed calls a runner, instead of ``seconds``; None for ``seconds``.
        warm_up: cap of each runner's warm-up, seconds.
        fps: frames per second, of the scope ``paced``.
        deadline_ms: deadline of a frame, of the scope ``paced``; one period if None.
        limit: maximum number of evaluated faces, sampled at random by ``seed``; None for all.
        seed: seed of that sample, of the order within timing rounds and of the speed-up's bootstrap.
        margin_pp: the drop that would be accepted, points: non-inferiority is evaluated against it.
        device: where a baseline in PyTorch runs: ``cpu``, ``cuda`` or ``cuda:N``; None: the GPU that an engine runs on,
            else the CPU.
        pytorch: how else it runs, a row each: see :data:`edgefer.engines.load.FORMS`; None: ``fp16`` and ``graph`` on a
            GPU, nothing on a CPU.

    Raises:
        EdgeferError: a value that cannot be.
    """

    batch: int = 1
    threads: int = 1
    scope: str = "e2e"
    seconds: float = 10.0
    iterations: int | None = None
    warm_up: float = 2.0
    fps: float = 30.0
    deadline_ms: float | None = None
    limit: int | None = None
    seed: int = 0
    margin_pp: float = MARGIN_PP
    device: str | None = None
    pytorch: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_scope(self.scope)
        for name in ("batch", "threads", "seed"):
            check_whole(f"--{name}", getattr(self, name), name)
        for name in ("iterations", "limit"):
            check_whole(f"--{name}", getattr(self, name), "count")
        if not 0 < self.seconds < math.inf:
            raise EdgeferError(
                f"the measurement must last longer than 0 s, not {self.seconds}", hint="pass e.g. --seconds 10"
            )
        if not 0 <= self.warm_up < math.inf:
            raise EdgeferError(f"the warm-up must not be negative, and is {self.warm_up} s", hint="--warm-up 2")
        check_margin(self.margin_pp)
        if self.pytorch:
            parse_forms(",".join(self.pytorch))
        if self.scope == "paced":
            FrameRate(self.fps, self.deadline_ms)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with what nobody chose but what changes the meaning of a number too."""
        paced = self.scope == "paced"
        chosen = {key: value for key, value in asdict(self).items() if paced or key not in ("fps", "deadline_ms")}
        return {
            **chosen,
            "a_call_is": MEANING[self.scope],
            "different_faces": max(self.batch, TIMED_FACES),
            "interleaved": "blocks of frames, shuffled" if paced else "turns within rounds, shuffled",
            "timed_calls_a_turn": CALLS_A_TURN,
            "untimed_calls_a_turn": 1,
            "clock": "time.perf_counter_ns",
            "garbage_collection": "off while timing",
        }


DEFAULT_SETTINGS = BenchSettings()


def variables() -> dict[str, str]:
    """The environment's variables that change how fast a runtime is, as far as they are set."""
    return {name: os.environ[name] for name in _VARIABLES if name in os.environ}


@dataclass(frozen=True)
class Energy:
    """Joules per image of everything that the source feeds, e.g. ``INA monitors``."""

    source: str
    joules_per_image: float


@dataclass(frozen=True, eq=False)
class Timed:
    """Results of timing.

    Attributes:
        timing: all samples.
        paces: name → how it kept up; empty unless the scope is ``paced``.
        energies: name → energy of an image; empty where the machine cannot tell.
        gpu_ms: name → what its calls took on the GPU; only engines whose runtime times them.
        telemetry: see ``Recording.summary``; None if nothing was watched.
        load: processor time that others used meanwhile; None where the system does not tell.
        disturbed: name → reasons why its figures are marked.
        warnings: sentences that limit what they mean.
    """

    timing: Interleaved
    paces: Mapping[str, Pace]
    energies: Mapping[str, Energy]
    gpu_ms: Mapping[str, GpuTimes]
    telemetry: dict[str, Any] | None
    load: OtherLoad | None
    disturbed: Mapping[str, Disturbed]
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
        gpu = next((used for classifier in classifiers.values() if (used := gpu_of(classifier)) is not None), None)
        recorder = opened.enter_context(Recorder(gpu=gpu)) if telemetry else None
        start, meter = time.monotonic(), LoadMeter()
        timing, paces = _measure(runners, settings)
        on_gpu = gpu_times(runners, timing)
        load, end = meter.read(), time.monotonic()
        recording = None if recorder is None else recorder.recording().between(start, end)
        energies = (
            {} if recorder is None or recording is None else _energies(runners, settings.batch, recorder, recording)
        )
    throttled = () if recording is None else tuple(recording.throttled())
    below = () if recording is None or gpu is None else tuple(recording.gpu_below())
    return Timed(
        timing=timing,
        paces=paces,
        energies=energies,
        gpu_ms=on_gpu,
        telemetry=None if recording is None else recording.summary(),
        load=load,
        disturbed=disturbances(timing, load, settings.threads, throttled),
        warnings=(*too_many_threads(cores, settings.threads), *below, *unsettled(timing), *too_few(timing)),
    )


def gpu_of(classifier: Classifier) -> int | None:
    """CUDA's number of the GPU that it runs on; None where it runs on the CPU."""
    session = classifier.session
    return session.gpu if isinstance(session, TimedSession) else None


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
    """Joules per image of each runner alone: interleaved turns are shorter than the readings' interval."""
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


def too_few(timing: Interleaved) -> Iterator[str]:
    """A warning for each runner that was timed too few times for a p95."""
    for name, latency in timing.latencies().items():
        if latency.p95 is None:
            yield f"{name} was timed {latency.n} times, too few for a p95 (200): time it longer"


def unsettled(timing: Interleaved) -> Iterator[str]:
    """A reason per runner that had not settled when its warm-up ended."""
    for name in timing.unsettled:
        yield f"{name} had not settled at the end of its warm-up: its first samples may be too high"


def too_many_threads(cores: int, threads: int) -> Iterator[str]:
    """The reason, if more threads were asked for than there are cores."""
    if threads > cores:
        yield f"{threads} threads were asked for and this process may use {cores} cores"
