"""Latency: every sample kept, percentiles only where the samples carry them, runners interleaved so drift hits all."""

from __future__ import annotations

import gc
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgefer.contract import INPUT_NAME
from edgefer.data import FaceSet
from edgefer.engines.classifier import Classifier
from edgefer.engines.session import CallTiming, TimedSession
from edgefer.errors import EdgeferError

Runner = Callable[[], object]
Clock = Callable[[], int]

Scope = Literal["compute", "e2e", "paced"]
SCOPES: tuple[str, ...] = get_args(Scope)
MEANING = {
    "compute": "the runtime's call alone, on a uint8 batch that is ready",
    "e2e": "uint8 batch in, checked scores out",
    "paced": "e2e at a frame rate: from the moment that a frame is due to its scores",
}

TIMED_FACES = 64
"""Number of different faces (or one batch, if that is more) that go round while timing."""

TAIL_SAMPLES = 10
"""A percentile is shown only if at least this many samples are expected beyond it: n·(1−p) ≥ 10."""

WARM_UP_WINDOW = 5
WARM_UP_TOLERANCE = 0.05


def carries(samples: int, percent: float) -> bool:
    """Whether this number of samples carries that percentile: n·(1−p) ≥ 10. In thousandths, so that 99.9 is exact."""
    return samples * (100_000 - round(percent * 1000)) >= TAIL_SAMPLES * 100_000


@dataclass(frozen=True, eq=False)
class Latency:
    """Call durations in ms, in the order they were taken (float64, n values, read-only)."""

    samples_ms: NDArray[np.float64]

    @classmethod
    def from_samples(cls, samples_ms: Sequence[float] | NDArray[np.float64]) -> Latency:
        """Check and copy the samples.

        Raises:
            EdgeferError: there is none, or one is negative or not finite.
        """
        samples = np.array(samples_ms, dtype=np.float64).ravel()
        if samples.size == 0:
            raise EdgeferError("a latency needs at least one sample, not 0", hint="measure longer: --seconds")
        if not np.isfinite(samples).all() or samples.min() < 0:
            raise EdgeferError(
                "latency samples must be finite and not negative", hint="the clock is at fault: run again"
            )
        samples.flags.writeable = False
        return cls(samples)

    @property
    def n(self) -> int:
        """Number of timed calls."""
        return int(self.samples_ms.size)

    @property
    def mean(self) -> float:
        """Mean in ms."""
        return float(self.samples_ms.mean())

    @property
    def variation(self) -> float | None:
        """Coefficient of variation: standard deviation ÷ mean; None with fewer than two samples or a mean of 0."""
        return float(self.samples_ms.std(ddof=1) / self.mean) if self.n > 1 and self.mean else None

    def percentile(self, percent: float) -> float | None:
        """The percentile ``percent`` in ms, linearly interpolated, or None unless n·(1−p) ≥ 10."""
        if not carries(self.n, percent):
            return None
        return float(np.percentile(self.samples_ms, percent))

    @property
    def p50(self) -> float | None:
        """Median in ms; needs 20 samples."""
        return self.percentile(50)

    @property
    def p90(self) -> float | None:
        """90th percentile in ms; needs 100 samples."""
        return self.percentile(90)

    @property
    def p95(self) -> float | None:
        """95th percentile in ms; needs 200 samples."""
        return self.percentile(95)

    @property
    def p99(self) -> float | None:
        """99th percentile in ms; needs 1,000 samples."""
        return self.percentile(99)

    def to_dict(self) -> dict[str, float | int | None]:
        """``p50 p90 p95 p99`` in ms (None where the samples do not carry it) and ``n``."""
        return {"p50": self.p50, "p90": self.p90, "p95": self.p95, "p99": self.p99, "n": self.n}


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % confidence interval."""

    value: float
    ci95: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Interleaved:
    """Latencies of several runners, taken in the same rounds.

    Attributes:
        rounds_ms: runner → float64 rounds × calls, ms; row ``i`` of every runner was taken within the same moments.
        unsettled: runners whose warm-up ran into its cap before two successive windows agreed.
    """

    rounds_ms: Mapping[str, NDArray[np.float64]]
    unsettled: tuple[str, ...]

    def latency(self, name: str) -> Latency:
        """All samples of one runner."""
        return Latency.from_samples(self.rounds_ms[name])

    def latencies(self) -> dict[str, Latency]:
        """All samples of every runner."""
        return {name: self.latency(name) for name in self.rounds_ms}

    def speedup(self, reference: str, candidate: str, *, resamples: int = 1000, seed: int = 0) -> Estimate:
        """Speed-up of ``candidate``: median of ``reference`` ÷ median of ``candidate``.

        The interval is the percentile bootstrap (Efron & Tibshirani 1993, chapter 13) over rounds: a round is sampled
        with all the calls that both runners made in it, so that what hit both at once cancels.
        """
        slow, fast = self.rounds_ms[reference], self.rounds_ms[candidate]
        rounds = len(slow)
        generator = np.random.default_rng(seed)
        ratios = np.empty(resamples)
        for i in range(resamples):
            sampled = generator.integers(0, rounds, rounds)
            ratios[i] = np.median(slow[sampled]) / np.median(fast[sampled])
        low, high = np.percentile(ratios, (2.5, 97.5))
        return Estimate(float(np.median(slow) / np.median(fast)), (float(low), float(high)))

    def percentile_intervals(
        self, name: str, percents: Sequence[float], *, resamples: int = 200, seed: int = 0
    ) -> dict[float, tuple[float, float]]:
        """95 % bootstrap intervals of percentiles, ms, over rounds; without those that the samples do not carry."""
        rounds = self.rounds_ms[name]
        carried = [percent for percent in percents if carries(rounds.size, percent)]
        generator = np.random.default_rng(seed)
        found = [
            np.percentile(rounds[generator.integers(0, len(rounds), len(rounds))], carried) for _ in range(resamples)
        ]
        low, high = np.percentile(found, (2.5, 97.5), axis=0)
        return {percent: (float(low[i]), float(high[i])) for i, percent in enumerate(carried)}

    def drift(self, name: str) -> float:
        """Median of the last third of the rounds ÷ median of the first third: above 1, it became slower."""
        rounds = self.rounds_ms[name]
        third = max(1, len(rounds) // 3)
        return float(np.median(rounds[-third:]) / np.median(rounds[:third]))


def interleave(
    runners: Mapping[str, Runner],
    *,
    seconds: float = 10.0,
    min_rounds: int = 10,
    calls: int = 5,
    warm_up_seconds: float = 2.0,
    seed: int = 0,
    clock: Clock = time.perf_counter_ns,
    tick: Callable[[float], object] | None = None,
) -> Interleaved:
    """Time ``runners`` side by side.

    Every runner is called until it has settled. Then come rounds: in each, every runner has one turn, in an order
    shuffled by ``seed``; a turn is one untimed call (it brings the runner's weights back into the caches and outlasts
    worker threads that another runtime left spinning) and ``calls`` timed ones, a sample each. Garbage collection is
    off meanwhile.

    Args:
        runners: name → a call that runs one batch to its end.
        seconds: duration of the rounds, all runners together; ``min_rounds`` are made even if that takes longer.
        min_rounds: the minimum number of rounds.
        calls: timed calls per turn.
        warm_up_seconds: cap of a runner's warm-up; it stops earlier once the medians of two successive windows of
            5 calls are within 5 %.
        seed: seed of the order within the rounds.
        clock: nanoseconds, monotonic.
        tick: called between rounds, about once a second, with the seconds gone since its last call.

    Raises:
        EdgeferError: no runner, or an argument out of range.
    """
    if not runners:
        raise EdgeferError("there is nothing to time: no runner was given")
    if not seconds > 0:
        raise EdgeferError(f"the measurement must last longer than 0 s, not {seconds}", hint="pass e.g. --seconds 10")
    if min_rounds < 1 or calls < 1:
        raise EdgeferError(f"rounds and calls per turn must be at least 1, not {min_rounds} and {calls}")
    order = list(runners)
    shuffler = random.Random(seed)
    turns: dict[str, list[list[int]]] = {name: [] for name in runners}
    with no_garbage_collection():
        unsettled = tuple(name for name, run in runners.items() if not warm_up(run, warm_up_seconds, clock))
        start, done = clock(), 0
        told = start
        while done < min_rounds or clock() - start < seconds * 1e9:
            shuffler.shuffle(order)
            for name in order:
                turns[name].append(_turn(runners[name], calls, clock))
            done += 1
            if tick is not None and clock() - told > 1e9:
                tick((clock() - told) / 1e9)
                told = clock()
    return Interleaved({name: np.array(turns[name], dtype=np.float64) / 1e6 for name in runners}, unsettled)


def _turn(run: Runner, calls: int, clock: Clock) -> list[int]:
    run()
    durations = []
    for _ in range(calls):
        before = clock()
        run()
        durations.append(clock() - before)
    return durations


def warm_up(run: Runner, cap_seconds: float, clock: Clock) -> bool:
    """Call ``run`` until two successive windows agree; False if the cap came first."""
    start = clock()
    previous = float(np.median(_turn(run, WARM_UP_WINDOW, clock)))
    while True:
        current = float(np.median(_turn(run, WARM_UP_WINDOW, clock)))
        if abs(current - previous) <= WARM_UP_TOLERANCE * previous:
            return True
        if clock() - start >= cap_seconds * 1e9:
            return False
        previous = current


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect once, then not until the block ends."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def check_scope(scope: str) -> None:
    """Refuse a scope that does not exist.

    Raises:
        EdgeferError: naming those that do.
    """
    if scope not in SCOPES:
        raise EdgeferError(f"there is no scope '{scope}'", hint=f"scopes are {', '.join(SCOPES)}")


def caller(classifier: Classifier, batches: Sequence[NDArray[np.uint8]], scope: str) -> Callable[[], object]:
    """A call that runs the next of ``batches`` in ``scope``; ``paced`` calls what ``e2e`` calls."""
    check_scope(scope)
    faces = itertools.cycle(batches)
    if scope == "compute":
        session = classifier.session
        return lambda: session.run({INPUT_NAME: next(faces)})
    return lambda: classifier.logits(next(faces))


def timed_batches(classifier: Classifier, faces: FaceSet, batch: int) -> list[NDArray[np.uint8]]:
    """Whole batches, uint8 batch×H×W×C, of real faces from all over ``faces``, prepared beforehand."""
    count = min(len(faces), max(batch, TIMED_FACES))
    spread = np.arange(count) * len(faces) // count
    pool = np.concatenate([part for part, _ in faces.subset(spread).batches(TIMED_FACES, classifier.contract)])
    starts = range(0, max(len(pool) - batch, 0) + 1, batch)
    # fewer faces than a batch holds: they go round
    return [np.ascontiguousarray(pool[(start + np.arange(batch)) % len(pool)]) for start in starts]


@dataclass(frozen=True, eq=False)
class Load:
    """Latency and throughput of several callers together.

    Attributes:
        latency: duration of all their calls, ms.
        calls_per_s: sum over all callers of calls ÷ the time that the caller took for them.
        settled: whether the warm-up of every caller ended before its cap.
    """

    latency: Latency
    calls_per_s: float
    settled: bool


def closed_loop(runners: Sequence[Runner], seconds: float, warm_up_seconds: float = 2.0) -> Load:
    """Call every runner from a thread of its own, without a pause, for ``seconds``.

    Before that, all are called together until each has settled, or for ``warm_up_seconds``; see ``latency.warm_up``.
    Each runner has its own session, as runtimes are not all safe to share. Python's lock is free while a runtime
    computes.

    Raises:
        EdgeferError: no runner, or no time; whatever a runner raises.
    """
    if not runners or not seconds > 0:
        raise EdgeferError(f"a load needs callers and time, not {len(runners)} and {seconds} s")
    ready = threading.Barrier(len(runners))
    samples: list[list[int]] = [[] for _ in runners]
    lasted = [0] * len(runners)
    settled = [False] * len(runners)
    faults: list[Exception] = []

    def work(index: int, run: Runner) -> None:
        try:
            settled[index] = warm_up(run, warm_up_seconds, time.perf_counter_ns)
            ready.wait()
            start = time.perf_counter_ns()
            while (before := time.perf_counter_ns()) < start + seconds * 1e9:
                run()
                samples[index].append(time.perf_counter_ns() - before)
            lasted[index] = time.perf_counter_ns() - start
        except threading.BrokenBarrierError:  # another caller failed before the start: its fault is told
            return
        except Exception as fault:  # it is raised again, by the thread that asked
            faults.append(fault)
            ready.abort()

    with no_garbage_collection():
        threads = [threading.Thread(target=work, args=item, daemon=True) for item in enumerate(runners)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if faults:
        raise faults[0]
    whole = [sample / 1e6 for mine in samples for sample in mine]
    return Load(
        Latency.from_samples(whole),
        sum(len(mine) / time_ns * 1e9 for mine, time_ns in zip(samples, lasted, strict=True)),
        all(settled),
    )


@dataclass(frozen=True)
class GpuTimes:
    """Medians of the timed calls, ms between CUDA events.

    Attributes:
        upload: duration of the copy to the GPU.
        compute: duration of the network.
        download: duration of the copy back.
        calls: number of timed calls.
        replayed: number of those that replayed a captured CUDA graph.
    """

    upload: float
    compute: float
    download: float
    calls: int
    replayed: int

    def to_dict(self) -> dict[str, float | int]:
        """JSON-ready."""
        return asdict(self)


class Watched:
    """A runner that keeps what each of its calls took on the GPU."""

    def __init__(self, run: Runner, session: TimedSession) -> None:
        self._run, self._session = run, session
        self._kept: list[CallTiming | None] = []

    def __call__(self) -> None:
        """Run it, and keep that."""
        self._run()
        self._kept.append(self._session.timing)

    def times(self, rounds: int, calls: int) -> GpuTimes | None:
        """GPU times of the timed calls alone, if nothing was called since; None with fewer calls than a median needs.

        Args:
            rounds: number of rounds made after the warm-up.
            calls: timed ones in a round; one that is not timed comes before them, as in
                :func:`~edgefer.measure.latency.interleave` and :func:`~edgefer.measure.pacing.pace`.
        """
        since = self._kept[-rounds * (calls + 1) :]
        timed = [call for place, call in enumerate(since) if place % (calls + 1) and call is not None]
        if not carries(len(timed), 50):
            return None
        upload, compute, download = np.median([(call.upload, call.compute, call.download) for call in timed], axis=0)
        replayed = sum(call.graph for call in timed)
        return GpuTimes(float(upload), float(compute), float(download), len(timed), replayed)


def watched(classifier: Classifier, run: Runner) -> Runner:
    """``run``, watched where the classifier's session times its calls."""
    session = classifier.session
    return Watched(run, session) if isinstance(session, TimedSession) else run


def gpu_times(runners: Mapping[str, Runner], timing: Interleaved) -> dict[str, GpuTimes]:
    """Name → times of those runners that were watched; asked before they are called again."""
    told = {name: run.times(*timing.rounds_ms[name].shape) for name, run in runners.items() if isinstance(run, Watched)}
    return {name: times for name, times in told.items() if times is not None}
