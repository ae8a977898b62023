"""Tango's interval and McNemar's test against published values, hand calculation and brute force."""

import math

import numpy as np
import pytest

from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import Predictions
from edgefer.measure.paired import NonInferiority, Paired, Verdict, mcnemar_exact, tango_interval, verdict_of

# Fagerland, Lydersen & Laake, "Statistical Analysis of Contingency Tables" (2017), chapter 8: complete response before
# and after consolidation therapy (Cavo et al. 2012), n11 n12 n21 n22 = 59 6 16 80; printed to four and six digits.
CAVO = (6, 16, 161)


def test_tango_and_mcnemar_equal_the_published_example():
    assert tango_interval(*CAVO) == pytest.approx((-0.1240, -0.0054), abs=5e-5)
    assert mcnemar_exact(6, 16) == pytest.approx(0.052479, abs=5e-7)


@pytest.mark.parametrize("counts", [CAVO, (12, 2, 50), (0, 3, 20), (40, 0, 3579), (7, 7, 30)])
def test_tangos_limits_are_where_a_brute_force_score_test_turns(counts):
    """The constrained likelihood is maximised on a fine grid, without the closed form that the code uses."""
    b, c, n = counts
    for limit in tango_interval(b, c, n):
        q = np.linspace(max(0.0, -limit) + 1e-12, (1 - limit) / 2 - 1e-12, 400_001)
        likelihood = (n - b - c) * np.log1p(-2 * q - limit)
        likelihood += b * np.log(q + limit) if b else 0
        likelihood += c * np.log(q) if c else 0
        best = q[likelihood.argmax()]
        score = (b - c - n * limit) / math.sqrt(n * (2 * best + limit * (1 - limit)))
        assert abs(score) == pytest.approx(1.959964, abs=2e-3)


@pytest.mark.parametrize("counts", [CAVO, (12, 2, 50), (0, 3, 20), (0, 0, 9), (5, 0, 5)])
def test_swapping_the_two_mirrors_the_interval(counts):
    b, c, n = counts
    low, high = tango_interval(b, c, n)
    assert tango_interval(c, b, n) == pytest.approx((-high, -low), abs=1e-12)
    assert -1 <= low <= (b - c) / n <= high <= 1


def test_nothing_discordant_still_leaves_a_doubt():
    z2 = 1.959964**2
    for n in (1, 100, 3579):
        assert tango_interval(0, 0, n) == pytest.approx((-z2 / (n + z2), z2 / (n + z2)), rel=1e-5)


def test_everything_discordant_ends_at_one():
    assert tango_interval(5, 0, 5)[1] == 1.0
    assert tango_interval(0, 5, 5)[0] == -1.0


@pytest.mark.parametrize(("p12", "p21"), [(0.04, 0.01), (0.02, 0.02)])
def test_coverage_by_simulation(p12, p21):
    counts = np.random.default_rng(3).multinomial(400, [p12, p21, 1 - p12 - p21], size=1500)
    intervals = {(b, c): tango_interval(b, c, 400) for b, c in {(int(b), int(c)) for b, c, _ in counts}}
    covered = [low <= p12 - p21 <= high for low, high in (intervals[int(b), int(c)] for b, c, _ in counts)]
    assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [
        (0, 0, 1.0),
        (4, 4, 1.0),
        (1, 0, 1.0),
        (0, 5, 2 / 32),
        (1, 5, 2 * 7 / 64),
        (9, 2, 2 * (1 + 11 + 55) / 2048),
        (10, 11, 1.0),
    ],
)
def test_mcnemar_by_hand(b, c, p):
    assert mcnemar_exact(b, c) == pytest.approx(p, rel=1e-12)
    assert mcnemar_exact(c, b) == mcnemar_exact(b, c)


def test_mcnemar_of_large_counts_equals_exact_integers():
    tail, term = 0, 1
    for k in range(1_901):
        tail += term
        term = term * (4_000 - k) // (k + 1)
    exact = float(2 * tail * 10**18 // 2**4_000) / 1e18
    assert mcnemar_exact(1_900, 2_100) == pytest.approx(exact, rel=1e-9)
    assert mcnemar_exact(0, 30_000) == 0.0


def predictions(answers, labels, *, name="net", classes=("a", "b", "c"), faces="f" * 64):
    logits = np.eye(len(classes), dtype=np.float32)[np.asarray(answers)]
    return Predictions(logits, np.asarray(labels, dtype=np.int64), classes, faces, name)


def test_counts_drop_and_agreement_from_predictions():
    labels = [0, 0, 1, 1, 2, 2, 2, 2]
    base = predictions([0, 0, 1, 1, 2, 2, 0, 0], labels)
    other = predictions([0, 1, 1, 0, 2, 0, 2, 0], labels)
    paired = Paired.from_predictions(base, other)
    assert (paired.both, paired.baseline_only, paired.candidate_only, paired.neither) == (3, 3, 1, 1)
    assert paired.drop_pp == pytest.approx(100 * (6 - 4) / 8)
    assert paired.agreement == 4 / 8
    assert paired.mcnemar_p == pytest.approx(2 * 5 / 16)
    assert paired.ci95_pp == pytest.approx(tuple(100 * x for x in tango_interval(3, 1, 8)))
    mirrored = Paired.from_predictions(other, base)
    assert mirrored.drop_pp == -paired.drop_pp
    assert mirrored.mcnemar_p == paired.mcnemar_p
    assert set(paired.to_dict()) == {"drop_pp", "ci95_pp", "mcnemar_p", "agreement"}


def test_a_network_against_itself():
    same = predictions([0, 1, 2, 0], [0, 1, 2, 2])
    paired = Paired.from_predictions(same, same)
    assert (paired.drop_pp, paired.mcnemar_p, paired.agreement) == (0.0, 1.0, 1.0)
    low, high = paired.ci95_pp
    assert low < -10
    assert high > 10


@pytest.mark.parametrize(
    ("changed", "message", "hint"),
    [
        ({"faces": "e" * 64}, "not run on the same faces", "same data, split, limit and seed"),
        ({"labels": [0, 1, 1]}, "not run on the same faces", "same data"),
        ({"classes": ("a", "b", "d")}, "a, b, c; second has a, b, d", "labelled with the network's classes"),
        ({"classes": ("b", "a", "c")}, "a, b, c; second has b, a, c", "order is not"),
    ],
)
def test_what_cannot_be_paired_is_refused(changed, message, hint):
    arguments = {"answers": [0, 1, 2], "labels": [0, 1, 2]}
    with pytest.raises(EdgeferError, match=message) as caught:
        Paired.from_predictions(
            predictions(**arguments, name="first"), predictions(**{**arguments, **changed}, name="second")
        )
    assert hint in caught.value.hint


def test_impossible_counts_are_refused():
    with pytest.raises(EdgeferError, match="needs faces, not 0") as caught:
        Paired(0, 0, 0, 0, 0)
    assert "split" in caught.value.hint
    with pytest.raises(EdgeferError, match="negative"):
        Paired(5, -1, 0, 0, 5)
    with pytest.raises(EdgeferError, match="agreeing"):
        Paired(5, 1, 1, 1, 7)
    with pytest.raises(EdgeferError, match="do not fit 3 faces"):
        tango_interval(2, 2, 3)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((-0.2, 0.4), "PASS"), ((-0.2, 0.5), "PASS"), ((0.1, 0.6), "INCONCLUSIVE"), ((0.5, 0.6), "INCONCLUSIVE"),
     ((0.51, 0.9), "FAIL")],
)  # fmt: skip
def test_an_interval_passes_whole_fails_whole_or_is_inconclusive(interval, verdict):
    assert verdict_of(interval, 0.5).value == verdict


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


@pytest.mark.parametrize("margin", [0, -1, float("nan"), float("inf")])
def test_a_margin_is_positive(margin):
    with pytest.raises(EdgeferError, match="positive number of points") as caught:
        NonInferiority(margin, 0, (0, 0), 1)
    assert "--margin" in caught.value.hint
