"""The verdict on an engine in one sentence, from intervals: how much faster, and how much accuracy may be lost."""

from __future__ import annotations

import math

from edgefer.measure.disturbance import MARK
from edgefer.measure.latency import Estimate
from edgefer.measure.paired import NonInferiority, Verdict


def speed_words(speedup: Estimate | None, *, disturbed: bool) -> str:
    """``3.9 × faster``, ``1.3 × slower``, or that no difference is seen; empty where it was not timed.

    Args:
        speedup: baseline's median ÷ the engine's, with its interval.
        disturbed: the figure is marked.
    """
    if speedup is None:
        return ""
    (low, high), mark = speedup.ci95, MARK if disturbed else ""
    if low <= 1 <= high or abs(speedup.value - 1) < 0.005:
        return f"no difference in speed is seen ({low:.2f} to {high:.2f} ×)"
    ratio, word = (speedup.value, "faster") if low > 1 else (1 / speedup.value, "slower")
    many = f"{100 * (ratio - 1):.0f} %" if ratio < 1.1 else f"{ratio:.2f} ×" if ratio < 2 else f"{ratio:.1f} ×"
    return f"{mark}{many} {word}"


def accuracy_words(ci95_pp: tuple[float, float], margin: NonInferiority) -> str:
    """``at most 0.4 points lost``: the ends of the drop's interval, rounded away from what flatters."""
    low, high = ci95_pp
    if high <= -0.1:
        return f"{_down(-high)} to {_up(-low)} points gained"
    lost = f"{_down(low)} to {_up(high)} points lost" if low >= 0.1 else f"at most {_up(max(high, 0))} points lost"
    if margin.verdict is Verdict.FAIL:
        return f"{lost}, more than the {margin.margin_pp:g} accepted"
    if margin.verdict is Verdict.INCONCLUSIVE:
        return f"{lost}, inconclusive for a margin of {margin.margin_pp:g}"
    return lost


def outcome(speedup: Estimate | None, margin: NonInferiority | None, *, disturbed: bool) -> Verdict:
    """PASS where it is seen to be faster, undisturbed, within the margin; FAIL where slower or beyond it."""
    slower = speedup is not None and speedup.ci95[1] < 1 and not disturbed
    if slower or (margin is not None and margin.verdict is Verdict.FAIL):
        return Verdict.FAIL
    faster = speedup is not None and speedup.ci95[0] > 1 and not disturbed
    return Verdict.PASS if faster and margin is not None and margin.verdict is Verdict.PASS else Verdict.INCONCLUSIVE


def _up(points: float) -> str:
    return f"{math.ceil(10 * points - 1e-9) / 10:.1f}"


def _down(points: float) -> str:
    return f"{math.floor(10 * points + 1e-9) / 10:.1f}"
