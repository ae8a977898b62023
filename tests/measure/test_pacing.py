"""Frames that are due, answered late or dropped: on a clock that only runners and sleeping move."""

import numpy as np
import pytest

from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import wilson_interval
from edgefer.measure.pacing import BLOCK_FRAMES, MIN_BLOCKS, FrameRate, miss_interval, pace


class Clock:
    def __init__(self):
        self.now = 0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += round(seconds * 1e9)

    def runner(self, durations_ms):
        durations = iter(durations_ms)

        def run():
            self.now += round(next(durations) * 1e6)

        return run


def endless(*values):
    while True:
        yield from values


def paced(durations, fps, deadline_ms=None, **options):
    clock = Clock()
    runners = {"net": clock.runner(durations)}
    rate = FrameRate(fps, deadline_ms)
    found = pace(runners, rate, clock=clock, sleep=clock.sleep, warm_up_seconds=0, **options)
    return found.timing.latency("net"), found.paces["net"]


def test_a_fast_network_answers_every_frame_in_time():
    latency, found = paced(endless(3), fps=100, frames=40)
    assert latency.samples_ms == pytest.approx(np.full(40, 3))
    assert (found.frames, found.misses, found.dropped) == (40, 0, 0)
    assert found.deadline_ms == 10
    assert found.jitter_ms == pytest.approx(0, abs=1e-9)
    assert found.wakeup_ms == 0


def test_a_tighter_deadline_is_missed_by_slow_answers():
    latency, found = paced(endless(3, 7), fps=100, deadline_ms=5, frames=40)
    assert latency.n == 40
    assert (found.misses, found.dropped) == (20, 0)
    assert found.jitter_ms == pytest.approx(4, rel=0.01), "answers are 4 ms nearer, then 4 ms farther, than frames"
    assert found.miss_share == 0.5


def test_frames_that_fall_due_meanwhile_are_dropped_not_queued():
    latency, found = paced(endless(25), fps=100, frames=20)
    assert latency.samples_ms == pytest.approx(np.full(20, 25)), "a queue would make each later than the last"
    assert found.frames == 20 + found.dropped
    assert found.dropped == 19 * 2, "of three frames one is answered; what follows the last is not counted"
    assert found.misses == found.frames, "25 ms are late at 100 frames per second"


def test_ten_blocks_are_made_in_any_case():
    latency, found = paced(endless(3), fps=100, seconds=0.1)
    assert latency.n == found.frames == MIN_BLOCKS * BLOCK_FRAMES
    assert latency.p95 is not None
    longer, _ = paced(endless(3), fps=100, seconds=4)
    assert longer.n == 400


def test_runners_take_blocks_in_turns():
    clock = Clock()
    order = []

    def runner(name):
        def run():
            order.append(name)
            clock.now += 1_000_000

        return run

    found = pace(
        {name: runner(name) for name in "ab"},
        FrameRate(50),
        frames=60,
        clock=clock,
        sleep=clock.sleep,
        warm_up_seconds=0,
    )
    assert found.timing.rounds_ms["a"].shape == (3, BLOCK_FRAMES)
    blocks = "".join(order[-6 * (BLOCK_FRAMES + 1) :: BLOCK_FRAMES + 1])
    assert sorted(blocks) == list("aaabbb")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fps": 0}, "frame rate and deadline must be positive, not 0"),
        ({"fps": 30, "deadline_ms": -1}, "not 30 and -1"),
        ({"fps": float("nan")}, "not nan and None"),
        ({"fps": 1e10}, "not 10000000000.0 and None"),
        ({"fps": 30, "deadline_ms": float("nan")}, "not 30 and nan"),
    ],
)
def test_impossible_rates_are_refused(arguments, message):
    with pytest.raises(EdgeferError, match=message) as caught:
        FrameRate(**arguments)
    assert "--fps" in caught.value.hint
    with pytest.raises(EdgeferError, match="no runner"):
        pace({}, FrameRate(30))


def test_misses_in_bursts_are_less_certain_than_scattered_ones():
    scattered, bursts = miss_interval([2] * 10, [20] * 10), miss_interval([20] + [0] * 9, [20] * 10)
    assert scattered == pytest.approx(wilson_interval(20, 200))
    assert bursts[0] < scattered[0]
    assert bursts[1] > scattered[1] + 0.1
    assert miss_interval([0] * 10, [20] * 10) == pytest.approx(wilson_interval(0, 200)), "none seen is not none"
    assert miss_interval([20], [20]) == pytest.approx(wilson_interval(20, 20))
