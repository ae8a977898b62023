"""Latency at a frame rate: a camera does not wait for the network, and an idle processor slows down and sleeps."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import wilson_of_share
from edgefer.measure.latency import Clock, Interleaved, Runner, no_garbage_collection, warm_up

Sleep = Callable[[float], object]
BLOCK_FRAMES = 20
"""Frames that one runner answers before the next has its turn."""
MIN_BLOCKS = 10
"""Blocks that carry a p95 and an interval between blocks."""
_MAX_FPS = 1e6  # a period is counted in nanoseconds


@dataclass(frozen=True)
class FrameRate:
    """A frame rate, and the deadline of an answer.

    Attributes:
        fps: frames per second.
        deadline_ms: time allowed after the frame; one period if it is not given.

    Raises:
        EdgeferError: a rate or a deadline that is not positive and finite, or a rate above a million per second.
    """

    fps: float
    deadline_ms: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.fps <= _MAX_FPS or not 0 < self.within_ms < math.inf:
            raise EdgeferError(
                f"frame rate and deadline must be positive, not {self.fps} and {self.deadline_ms}",
                hint=f"--fps 30; at most {_MAX_FPS:,.0f}",
            )

    @property
    def within_ms(self) -> float:
        """The deadline in ms: what was asked for, or one period."""
        return 1000.0 / self.fps if self.deadline_ms is None else self.deadline_ms


@dataclass(frozen=True)
class Pace:
    """Results of one runner at a frame rate.

    Attributes:
        fps: frames per second that were due.
        deadline_ms: within which an answer was due after its frame.
        frames: number of frames that were due, answered or dropped.
        misses: answers that came late, and dropped frames.
        dropped: frames that were due while the one before was still being answered; a camera drops those.
        miss_ci95: interval of the share of misses, 0–1; see :func:`miss_interval`.
        jitter_ms: standard deviation of the time between two answers, less what dropped frames added.
        wakeup_ms: median delay from the moment a frame was due to the start of its call (the system's doing).
    """

    fps: float
    deadline_ms: float
    frames: int
    misses: int
    dropped: int
    miss_ci95: tuple[float, float]
    jitter_ms: float
    wakeup_ms: float

    @property
    def miss_share(self) -> float:
        """Share of misses, 0–1."""
        return self.misses / self.frames


@dataclass(frozen=True, eq=False)
class Paced:
    """Responses of several runners at a frame rate: ms from the due moment to the answer, blocks × frames."""

    timing: Interleaved
    paces: Mapping[str, Pace]


def pace(
    runners: Mapping[str, Runner],
    rate: FrameRate,
    *,
    seconds: float = 10.0,
    frames: int | None = None,
    warm_up_seconds: float = 2.0,
    seed: int = 0,
    clock: Clock = time.perf_counter_ns,
    sleep: Sleep = time.sleep,
) -> Paced:
    """Give each runner blocks of frames that are due at ``rate``, in an order shuffled in each round.

    Args:
        runners: name → a call that answers one frame (or batch).
        rate: frame rate, with the deadline.
        seconds: approximate duration, all runners together; :data:`MIN_BLOCKS` each are made in any case.
        frames: minimum number of answered frames per runner; overrides ``seconds``.
        warm_up_seconds: cap of the warm-up before the first block of each runner.
        seed: seed of the order.
        clock: nanoseconds, monotonic.
        sleep: waits for a number of seconds.

    Raises:
        EdgeferError: no runner.
    """
    if not runners:
        raise EdgeferError("there is nothing to time: no runner was given")
    if frames is None:
        frames = max(int(seconds * rate.fps / len(runners)), MIN_BLOCKS * BLOCK_FRAMES)
    blocks = max(1, -(-frames // BLOCK_FRAMES))
    shuffler, order = random.Random(seed), list(runners)
    answers: dict[str, list[_Block]] = {name: [] for name in runners}
    with no_garbage_collection():
        unsettled = tuple(name for name, run in runners.items() if not warm_up(run, warm_up_seconds, clock))
        for _ in range(blocks):
            shuffler.shuffle(order)
            for name in order:
                answers[name].append(_block(runners[name], round(1e9 / rate.fps), clock, sleep))
    rounds = {name: np.stack([block.response_ms for block in answers[name]]) for name in runners}
    return Paced(Interleaved(rounds, unsettled), {name: _pace(answers[name], rate) for name in runners})


@dataclass(frozen=True, eq=False)
class _Block:
    response_ms: NDArray[np.float64]
    wakeup_ms: NDArray[np.float64]
    intervals_ms: NDArray[np.float64]
    dropped: int


def _block(run: Runner, period: int, clock: Clock, sleep: Sleep) -> _Block:
    run()  # untimed, as in a turn of interleave: it brings the weights back into the caches
    due = clock() + period
    first = due
    response: list[int] = []
    wakeup: list[int] = []
    ends: list[int] = []
    answered: list[int] = []
    while len(response) < BLOCK_FRAMES:
        while (wait := due - clock()) > 0:
            sleep(wait / 1e9)
        begin = clock()
        run()
        end = clock()
        response.append(end - due)
        wakeup.append(begin - due)
        ends.append(end)
        answered.append(due)
        due += period * max(1, -(-(end - due) // period))  # what was due meanwhile is gone
    skipped = (answered[-1] - first) // period + 1 - len(answered)
    intervals = np.diff(np.array(ends, dtype=np.float64)) - np.diff(np.array(answered, dtype=np.float64))
    return _Block(np.array(response) / 1e6, np.array(wakeup) / 1e6, intervals / 1e6, int(skipped))


def _pace(blocks: list[_Block], rate: FrameRate) -> Pace:
    response = np.concatenate([block.response_ms for block in blocks])
    dropped = sum(block.dropped for block in blocks)
    misses = [int((block.response_ms > rate.within_ms).sum()) + block.dropped for block in blocks]
    return Pace(
        fps=rate.fps,
        deadline_ms=rate.within_ms,
        frames=len(response) + dropped,
        misses=sum(misses),
        dropped=dropped,
        miss_ci95=miss_interval(misses, [len(block.response_ms) + block.dropped for block in blocks]),
        jitter_ms=float(np.concatenate([block.intervals_ms for block in blocks]).std()),
        wakeup_ms=float(np.median(np.concatenate([block.wakeup_ms for block in blocks]))),
    )


def miss_interval(misses: Sequence[int], frames: Sequence[int]) -> tuple[float, float]:
    """95 % interval of a share of misses, 0–1, from blocks: misses come in bursts, and a burst is not many misses.

    Wilson's, with the number of frames divided by the design effect of the blocks (Kish 1965, "Survey sampling",
    chapter 5): how many times larger the variance between blocks is than it would be for independent frames.
    """
    total, share = sum(frames), sum(misses) / sum(frames)
    effect = 1.0
    if len(frames) > 1 and 0 < share < 1:
        shares = np.array(misses) / np.array(frames)
        effect = max(1.0, float(shares.var(ddof=1)) * total / len(frames) / (share * (1 - share)))
    return wilson_of_share(share, total / effect)
