"""Non-inferiority: what is shown, what is not, and how many faces would tell."""

import pytest

from edgefer.errors import EdgeferError
from edgefer.measure.margin import NonInferiority, Verdict, judge
from edgefer.measure.paired import Paired


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((-0.2, 0.4), "PASS"), ((-0.2, 0.5), "PASS"), ((0.1, 0.6), "INCONCLUSIVE"), ((0.5, 0.6), "INCONCLUSIVE"),
     ((0.51, 0.9), "FAIL")],
)  # fmt: skip
def test_an_interval_passes_whole_fails_whole_or_is_inconclusive(interval, verdict):
    assert judge(interval, 0.5).value == verdict


def test_no_difference_seen_is_not_no_worse():
    few = NonInferiority.of(Paired(60, 1, 1, 38, 98), 0.5)
    assert few.verdict is Verdict.INCONCLUSIVE
    assert not few.difference_seen
    assert few.sentence().startswith("no difference seen, but 'no worse than 0.5 points' is not shown: +")
    many = NonInferiority.of(Paired(60_000, 100, 100, 39_800, 99_800), 0.5)
    assert many.verdict is Verdict.PASS
    assert many.sentence().startswith("no worse than 0.5 points: shown (at most +0.0")


def test_a_seen_difference_can_be_no_worse_and_a_failure_says_at_least():
    small = NonInferiority.of(Paired(60_000, 300, 100, 39_600, 99_600), 0.5)
    assert (small.verdict, small.difference_seen) == (Verdict.PASS, True)
    assert "a difference was seen (+0.20)" in small.sentence()
    bad = NonInferiority.of(Paired(6000, 300, 100, 3600, 9600), 0.5)
    assert bad.verdict is Verdict.FAIL
    assert bad.sentence().startswith("worse than 0.5 points: at least +1.")
    assert bad.faces_needed is None


def test_the_faces_needed_would_decide_it():
    unclear = NonInferiority.of(Paired(2400, 40, 38, 1022, 3400), 0.5)
    assert unclear.verdict is Verdict.INCONCLUSIVE
    factor = unclear.faces_needed / unclear.n
    more = Paired(*(round(count * factor) for count in (2400, 40, 38, 1022, 3400)))
    high = NonInferiority.of(more, 0.5).ci95_pp[1]
    assert high == pytest.approx(0.5, abs=0.03)
    assert "faces would tell" in unclear.sentence()
    assert set(unclear.to_dict()) == {"margin_pp", "verdict", "difference_seen", "faces_needed", "sentence"}


@pytest.mark.parametrize("margin", [0, -1, float("nan"), float("inf")])
def test_a_margin_is_positive(margin):
    with pytest.raises(EdgeferError, match="positive number of points") as caught:
        NonInferiority(margin, 0, (0, 0), 1)
    assert "--margin" in caught.value.hint
