"""Several callers at once."""

import threading
import time

import pytest

from edgefer.errors import EdgeferError
from edgefer.measure.load import closed_loop


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
