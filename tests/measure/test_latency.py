"""Percentiles only where samples carry them; interleaving that is fair; a speed-up with its interval."""

import gc
import threading
import time

import numpy as np
import pytest

from edgefer.errors import EdgeferError
from edgefer.measure.latency import Interleaved, Latency, closed_loop, interleave


class FakeClock:
    """Nanoseconds that only runners move. Runners record who was called."""

    def __init__(self):
        self.now = 0
        self.calls = []

    def __call__(self):
        return self.now

    def runner(self, name, durations_ms):
        durations = iter(durations_ms) if not isinstance(durations_ms, (int, float)) else None

        def run():
            self.calls.append(name)
            self.now += round((durations_ms if durations is None else next(durations)) * 1e6)

        return run


@pytest.mark.parametrize(("percent", "needed"), [(50, 20), (90, 100), (95, 200), (99, 1000)])
def test_a_percentile_needs_ten_samples_beyond_it(percent, needed):
    assert Latency.from_samples(np.ones(needed - 1)).percentile(percent) is None
    assert Latency.from_samples(np.ones(needed)).percentile(percent) == 1.0


def test_values_of_known_samples():
    latency = Latency.from_samples(np.arange(1001, dtype=float))
    assert (latency.p50, latency.p90, latency.p95, latency.p99) == (500, 900, 950, 990)
    assert latency.mean == 500
    assert latency.to_dict() == {"p50": 500, "p90": 900, "p95": 950, "p99": 990, "n": 1001}
    short = Latency.from_samples([3.0])
    assert short.to_dict() == {"p50": None, "p90": None, "p95": None, "p99": None, "n": 1}


def test_samples_are_kept_in_order_copied_and_frozen():
    given = np.array([3.0, 1.0, 2.0])
    latency = Latency.from_samples(given)
    given[0] = 99
    assert latency.samples_ms.tolist() == [3.0, 1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        latency.samples_ms[0] = 0


@pytest.mark.parametrize(
    ("samples", "message"), [([], "at least one sample"), ([1, -1], "not negative"), ([1, np.nan], "finite")]
)
def test_impossible_samples_are_refused(samples, message):
    with pytest.raises(EdgeferError, match=message) as caught:
        Latency.from_samples(samples)
    assert caught.value.hint


def test_every_round_gives_each_runner_one_turn_in_a_shuffled_order():
    clock = FakeClock()
    runners = {name: clock.runner(name, 1) for name in "abc"}
    timing = interleave(runners, seconds=0.001, min_rounds=20, calls=3, seed=1, clock=clock)
    measured = clock.calls[3 * 12 :]  # a settled warm-up is two windows of 1 + 5 calls
    turns = ["".join(measured[i : i + 4]) for i in range(0, len(measured), 4)]
    assert set(turns) == {"aaaa", "bbbb", "cccc"}, "a turn is one untimed and three timed calls of one runner"
    orders = ["".join(turn[0] for turn in turns[i : i + 3]) for i in range(0, len(turns), 3)]
    assert len(orders) == 20
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(set(orders)) > 3
    assert {name: rounds.shape for name, rounds in timing.rounds_ms.items()} == dict.fromkeys("abc", (20, 3))
    again = FakeClock()
    interleave({n: again.runner(n, 1) for n in "abc"}, seconds=0.001, min_rounds=20, calls=3, seed=1, clock=again)
    assert again.calls == clock.calls, "the seed decides the order"


def test_it_lasts_the_seconds_asked_for_and_reports_ms():
    clock = FakeClock()
    timing = interleave({"a": clock.runner("a", 2), "b": clock.runner("b", 6)}, seconds=4.8, clock=clock)
    assert len(timing.rounds_ms["a"]) == 100, "a round is 6 · 2 ms + 6 · 6 ms = 48 ms"
    assert timing.latency("a").p50 == pytest.approx(2)
    assert timing.latencies()["b"].p50 == pytest.approx(6)
    assert timing.speedup("b", "a").value == pytest.approx(3)
    assert timing.unsettled == ()


def test_warm_up_lasts_until_two_windows_agree_and_is_not_timed():
    clock = FakeClock()
    warming = [100] * 6 + [50] * 6 + [10] * 6
    timing = interleave({"a": clock.runner("a", warming + [10] * 1000)}, seconds=0.1, min_rounds=1, clock=clock)
    assert timing.latency("a").samples_ms.max() == pytest.approx(10)
    assert timing.unsettled == ()


def test_a_runner_that_never_settles_is_named_after_the_cap():
    clock = FakeClock()
    unsteady = (1.5**i for i in range(10_000))
    runners = {"steady": clock.runner("steady", 1), "unsteady": clock.runner("unsteady", unsteady)}
    timing = interleave(runners, seconds=0.01, min_rounds=1, warm_up_seconds=0.5, clock=clock)
    assert timing.unsettled == ("unsteady",)


def test_garbage_collection_is_off_while_timing_and_back_after_a_failure():
    seen = []

    def run():
        seen.append(gc.isenabled())
        if len(seen) > 20:
            raise RuntimeError("the runner failed")

    with pytest.raises(RuntimeError):
        interleave({"a": run}, seconds=5)
    assert not any(seen)
    assert gc.isenabled()


def test_drift_that_hits_both_alike_leaves_the_speedup():
    generator = np.random.default_rng(0)
    clock_speed = np.linspace(1, 2, 300)[:, None]
    slow = 4 * clock_speed * generator.normal(1, 0.02, (300, 5))
    fast = 2 * clock_speed * generator.normal(1, 0.02, (300, 5))
    timing = Interleaved({"slow": slow, "fast": fast}, ())
    ratio = timing.speedup("slow", "fast")
    assert ratio.value == pytest.approx(2, rel=0.02)
    assert ratio.ci95[0] < 2 < ratio.ci95[1]
    assert ratio.ci95[1] - ratio.ci95[0] < 0.06, "resampled apart, it would be seven times as wide"
    assert ratio == timing.speedup("slow", "fast"), "seeded"
    assert timing.drift("slow") == pytest.approx(1.8333 / 1.1667, rel=0.02)


def test_the_speedup_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        rounds = {"a": generator.lognormal(0.5, 0.2, (40, 5)), "b": generator.lognormal(0.0, 0.2, (40, 5))}
        low, high = Interleaved(rounds, ()).speedup("a", "b", resamples=200).ci95
        covered += low <= np.exp(0.5) <= high
    assert 178 <= covered <= 199


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runners": {}}, "no runner"),
        ({"runners": {"a": int}, "seconds": 0}, "longer than 0 s"),
        ({"runners": {"a": int}, "min_rounds": 0}, "at least 1, not 0 and 5"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(EdgeferError, match=message):
        interleave(**arguments)


def test_p999_needs_ten_thousand_and_the_spread_is_told():
    assert Latency.from_samples(np.ones(9_999)).percentile(99.9) is None
    assert Latency.from_samples(np.ones(10_000)).percentile(99.9) == 1.0
    assert Latency.from_samples([1.0, 3.0]).variation == pytest.approx(np.sqrt(2) / 2)
    assert Latency.from_samples([1.0]).variation is None


def test_percentile_intervals_are_of_rounds_and_only_where_samples_carry_them():
    generator = np.random.default_rng(3)
    alone = Interleaved({"a": generator.lognormal(0, 0.2, (60, 5))}, ())
    found = alone.percentile_intervals("a", (50, 95, 99))
    assert set(found) == {50, 95}, "300 samples do not carry a p99"
    low, high = found[50]
    assert low < np.median(alone.rounds_ms["a"]) < high
    together = Interleaved({"a": np.repeat(generator.lognormal(0, 0.2, (60, 1)), 5, axis=1)}, ())
    low_, high_ = together.percentile_intervals("a", (50,))[50]
    assert high_ - low_ > 1.5 * (high - low), "calls of one round are one piece of evidence, not five"
    assert alone.percentile_intervals("a", (50,)) == alone.percentile_intervals("a", (50,)), "seeded"
    assert Interleaved({"a": np.ones((2, 5))}, ()).percentile_intervals("a", (50,)) == {}


def test_a_median_lies_in_its_interval_about_as_often_as_that_says():
    generator = np.random.default_rng(7)
    covered = 0
    for _ in range(60):
        taken = Interleaved({"a": generator.lognormal(0, 0.2, (40, 5))}, ())
        low, high = taken.percentile_intervals("a", (50,), resamples=100)[50]
        covered += low <= 1.0 <= high
    assert 52 <= covered <= 60


def test_callers_that_wait_add_up():
    one = closed_loop([lambda: time.sleep(0.01)], 0.3)
    three = closed_loop([lambda: time.sleep(0.01)] * 3, 0.3)
    assert one.latency.samples_ms.min() >= 9.9
    assert 1.5 * one.calls_per_s < three.calls_per_s < 6 * one.calls_per_s, "three times, on a quiet machine"
    assert one.calls_per_s <= 101


def test_callers_that_do_not_settle_are_told():
    unsteady = iter(range(1, 10_000))
    growing = closed_loop([lambda: time.sleep(0.0002 * 1.3 ** next(unsteady))], 0.01, warm_up_seconds=0.05)
    assert not growing.settled
    assert closed_loop([lambda: time.sleep(0.01)], 0.01).settled


def test_each_caller_has_its_own_thread():
    seen = set()
    closed_loop([lambda: seen.add(threading.get_ident())] * 2, 0.02)
    assert len(seen) == 2


def test_a_fault_in_a_caller_is_raised_and_stops_the_others():
    def fail():
        raise EdgeferError("the engine broke", hint="mend it")

    with pytest.raises(EdgeferError, match="the engine broke"):
        closed_loop([fail, lambda: None], 5)


def test_no_callers_and_no_time_are_refused():
    for runners, seconds in (([], 1), ([int], 0)):
        with pytest.raises(EdgeferError, match="callers and time"):
            closed_loop(runners, seconds)
