import itertools
import math

import numpy as np
import pytest

from edgefer.camera.smooth import Smoother, Smoothers, Smoothing
from edgefer.errors import EdgeferError

HAPPY, SAD, FLAT = (np.array(p, np.float32) for p in ([0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.34, 0.33, 0.33]))


def feed(smoothing, rows, step=1 / 30):
    smoother = Smoother(smoothing)
    return [smoother.update(row, index * step) for index, row in enumerate(rows)]


def changes(answers):
    labels = [answer.label for answer in answers]
    return sum(a != b for a, b in itertools.pairwise(labels))


def test_the_mean_comes_through_by_its_time_constant():
    smoothing = Smoothing(seconds=0.4, margin=0)
    for step in (0.4, 0.04, 0.01):  # whatever the frame rate
        answers = feed(smoothing, [HAPPY] + [SAD] * round(0.4 / step), step)
        assert answers[-1].probabilities[1] == pytest.approx(0.05 + 0.85 * (1 - math.exp(-1)), abs=1e-4)
        assert answers[-1].probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_one_odd_frame_does_not_change_the_label():
    rows = ([HAPPY] * 10 + [SAD]) * 5
    assert changes(feed(Smoothing(kind="none"), rows)) == 9
    assert changes(feed(Smoothing(), rows)) == 0
    assert changes(feed(Smoothing(kind="majority"), rows)) == 0


def test_a_real_change_comes_through_within_a_second():
    for kind in ("ema", "majority"):
        answers = feed(Smoothing(kind=kind), [HAPPY] * 30 + [SAD] * 30)
        assert answers[29].label == 0
        assert answers[-1].label == 1
        assert changes(answers) <= 2  # straight over, or by way of unsure


def test_a_label_stays_until_another_clearly_leads():
    near = [np.array([0.5 + d, 0.5 - d, 0], np.float32) for d in (0.02, -0.02) * 10]
    assert changes(feed(Smoothing(seconds=0.01, margin=0.0), near)) > 10
    assert changes(feed(Smoothing(seconds=0.01, margin=0.08), near)) == 0


def test_below_the_confidence_there_is_no_label():
    assert [answer.label for answer in feed(Smoothing(min_confidence=0.4), [FLAT, FLAT])] == [None, None]
    assert feed(Smoothing(min_confidence=0.0), [FLAT])[0].label == 0


def test_a_confidence_at_the_limit_does_not_blink():
    rows = [np.array([0.4 + d, 0.3, 0.3 - d], np.float32) for d in (0.01, -0.01) * 10]
    assert changes(feed(Smoothing(seconds=0.01, min_confidence=0.4), rows)) == 0
    assert changes(feed(Smoothing(seconds=0.01, min_confidence=0.4, margin=0), rows)) > 10


def test_majority_is_the_share_of_the_last_ten():
    answers = feed(Smoothing(kind="majority"), [HAPPY] * 8 + [SAD] * 6)
    np.testing.assert_allclose(answers[-1].probabilities, [0.4, 0.6, 0])


def test_each_track_has_its_own_memory_and_old_ones_go():
    smoothers = Smoothers(Smoothing(margin=0))
    both = smoothers.update([1, 2], np.stack([HAPPY, SAD]), 0.0)
    assert [answer.label for answer in both] == [0, 1]
    for second in range(1, 1000):
        smoothers.update([second + 2], FLAT[None], float(second))
    assert len(smoothers._each) < 10
    assert smoothers.update([], np.zeros((0, 3), np.float32), 1000.0) == []


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({"kind": "median"}, "no smoothing 'median'", "--smooth ema"),
        ({"seconds": 0}, "over 0 s", "above 0"),
        ({"min_confidence": 1.5}, "threshold of 1.5", "0 to 1"),
    ],
)
def test_senseless_values_are_refused(values, message, hint):
    with pytest.raises(EdgeferError) as fault:
        Smoothing(**values)
    assert message in fault.value.message
    assert hint in fault.value.hint
