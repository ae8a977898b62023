"""Copies among test faces count once: what they change in every interval, and how often the intervals hold."""

import numpy as np
import pytest

from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import Predictions, design_effect, macro_f1_ci95, wilson_interval
from edgefer.measure.paired import NonInferiority, Paired, class_drops, mcnemar_exact, sign_flip, tango_interval

CLASSES = ("angry", "happy", "sad")


def networks(labels, before, after, groups=()):
    """Two networks with these answers."""
    groups = np.array(groups, np.int64)

    def answering(answers, name):
        logits = np.eye(3, dtype=np.float32)[np.asarray(answers)]
        return Predictions(logits, np.asarray(labels, np.int64), CLASSES, "0" * 64, name, groups)

    return answering(before, "base"), answering(after, "engine")


def sampled(count, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    before = np.where(random.random(count) < 0.6, labels, random.integers(0, 3, count))
    return labels, before, np.where(random.random(count) < 0.7, before, random.integers(0, 3, count))


def intervals(base, engine):
    paired = Paired.from_predictions(base, engine)
    margin = NonInferiority.of(paired, 5.0)
    return {
        "top1": (base.top1, *base.top1_ci95),
        "drop": (paired.drop_pp, *paired.ci95_pp),
        "agreement": (paired.agreement, *paired.agreement_ci95),
        "p": paired.mcnemar_p,
        "classes": [(drop.drop_pp, *drop.ci_pp) for drop in class_drops(base, engine)],
        "margin": (margin.verdict, margin.faces_needed, margin.sentence()),
    }


def test_without_copies_the_intervals_are_wilsons_and_tangos():
    base, engine = networks(*sampled(200))
    grouped, other = networks(*sampled(200), groups=np.random.default_rng(1).permutation(200) + 7)
    assert intervals(base, engine) == intervals(grouped, other)
    paired = Paired.from_predictions(base, engine)
    lost, gained = paired.baseline_only, paired.candidate_only
    assert min(lost, gained) > 0
    assert base.top1_ci95 == wilson_interval(int(base.correct.sum()), 200)
    assert paired.ci95_pp == tuple(100 * end for end in tango_interval(lost, gained, 200))
    assert paired.agreement_ci95 == wilson_interval(paired.agreeing, 200)
    assert paired.mcnemar_p == mcnemar_exact(lost, gained)


@pytest.mark.parametrize("copies", [2, 30])
def test_copies_of_every_face_change_no_interval_at_all(copies):
    once = networks(*sampled(200))
    many = networks(*(np.tile(part, copies) for part in sampled(200)), groups=np.tile(np.arange(200), copies))
    assert intervals(*many) == intervals(*once)
    assert (many[0].n, many[0].distinct, once[0].distinct) == (200 * copies, 200, 200)
    assert macro_f1_ci95(many[0]) == pytest.approx(macro_f1_ci95(once[0]), abs=2e-3)


def test_design_effect_by_hand():
    assert design_effect(np.array([1, 0, 0, 1]), np.array([0, 1, 2, 3])) == 1
    assert design_effect(np.zeros(6), np.array([0, 0, 0, 1, 2, 2])) == (9 + 1 + 4) / 6, "all alike: Kish's"
    # the group of three is right and the singles are wrong: its sum lies 3·(1 − 1/2) above what is expected
    by_hand = (1.5**2 + 3 * 0.5**2) / (6 * 0.5**2)
    assert design_effect(np.array([1, 1, 1, 0, 0, 0]), np.array([0, 0, 0, 1, 2, 3])) == pytest.approx(by_hand)
    opposed = design_effect(np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1]))
    assert opposed == 2, "members that disagree are not believed to tell more than one face"
    assert design_effect(np.array([1, 1, 0]), np.array([0, 0, 0])) == 3, "one group is one observation"


def test_sign_flips_by_brute_force():
    nets = (3, -1, -1, 2, 5, -2)
    flips = np.array(np.meshgrid(*[[-1, 1]] * len(nets))).reshape(len(nets), -1)
    sums = np.abs(np.array(nets) @ flips)
    assert sign_flip(nets) == pytest.approx((sums >= abs(sum(nets))).mean(), rel=1e-12)
    assert sign_flip((4, 4, -4)) == mcnemar_exact(2, 1)
    assert sign_flip((1,) * 40 + (-1,) * 20 + (2,)) == pytest.approx(sign_flip((-1,) * 40 + (1,) * 20 + (-2,)))
    labels = np.zeros(6, int)
    base, engine = networks(labels, labels, [1, 1, 1, 0, 0, 0], groups=[0, 0, 1, 2, 2, 3])
    assert Paired.from_predictions(base, engine).mcnemar_p == sign_flip((2, 1)) == 0.5


def test_interval_of_macro_f1_samples_whole_groups():
    labels, before, _ = sampled(120)
    groups = np.concatenate([np.arange(60), np.repeat(np.arange(60, 72), 5)])
    before[60:] = np.repeat(before[60::5], 5)
    labels[60:] = np.repeat(labels[60::5], 5)
    base, _ = networks(labels, before, before, groups)
    alone, _ = networks(labels, before, before)
    low, high = macro_f1_ci95(base)
    assert high - low > 1.3 * np.subtract(*macro_f1_ci95(alone)[::-1])
    random = np.random.default_rng(3)
    members = [np.flatnonzero(groups == group) for group in range(72)]
    again = []
    for _ in range(600):
        rows = np.concatenate([members[i] for i in random.integers(0, 72, 72)])
        confusion = np.bincount(3 * labels[rows] + before[rows], minlength=9).reshape(3, 3)
        again.append(np.mean(2 * confusion.diagonal() / (confusion.sum(0) + confusion.sum(1))))
    assert (low, high) == pytest.approx(np.percentile(again, (2.5, 97.5)), abs=0.02)


def test_groups_travel_in_the_file_and_are_checked(tmp_path):
    base, engine = networks([0, 1, 2, 0], [0, 1, 2, 0], [0, 1, 2, 1], groups=[90, 5, 90, 90])
    assert base.groups.tolist() == [1, 0, 1, 1]
    base.save(tmp_path / "base.npz")
    read = Predictions.load(tmp_path / "base.npz")
    assert read.groups.tolist() == [1, 0, 1, 1]
    assert read.top1_ci95 == base.top1_ci95
    alone, _ = networks([0, 1, 2, 0], [0, 1, 2, 0], [0, 1, 2, 1])
    with pytest.raises(EdgeferError, match="other groups of near-duplicates: 4 and 2 distinct faces"):
        Paired.from_predictions(alone, engine)
    with pytest.raises(EdgeferError, match=r"groups of shape \[3\] for 4 faces"):
        networks([0, 1, 2, 0], [0] * 4, [0] * 4, groups=[0, 1, 2])
    with np.load(tmp_path / "base.npz") as archive:
        content = {key: archive[key] for key in archive}
    np.savez(tmp_path / "text.npz", **{**content, "groups": np.array(list("abca"))})
    with pytest.raises(EdgeferError, match="its groups are <U1"):
        Predictions.load(tmp_path / "text.npz")
    np.savez(tmp_path / "older.npz", **{key: value for key, value in content.items() if key != "groups"})
    with pytest.raises(EdgeferError, match="lacks groups"):
        Predictions.load(tmp_path / "older.npz")


SINGLES = np.ones(300, np.int64)
REPEATED = np.full(200, 30)
A_FEW = np.concatenate([np.ones(500, np.int64), np.full(5, 100)])
UNEQUAL = np.concatenate([np.ones(400, np.int64), 1 + np.arange(100) % 7])

LARGE, SMALL, HARDLY_ANY = (0.30, 0.10), (0.02, 0.01), (0.0005, 0.0)


def coverage(sizes, shares, right=0.65, noise=0.0, of_copied=None, runs=400):
    """How often the intervals of the drop and of top-1 hold, in sets of groups of these sizes.

    Args:
        sizes: faces per group.
        shares: probabilities that a group is lost and gained by the candidate.
        right: probability that it is named rightly.
        noise: probability that a member does not answer as its group does.
        of_copied: the three probabilities of groups with several faces, where they are others.
        runs: simulated sets.
    """
    random = np.random.default_rng(4)
    groups, n = np.repeat(np.arange(len(sizes)), sizes), int(sizes.sum())
    lost, gained, named = np.tile([*shares, right], (len(sizes), 1)).T
    if of_copied is not None:
        lost[sizes > 1], gained[sizes > 1], named[sizes > 1] = of_copied

    def chances():
        found, alone = random.random(len(sizes))[groups], random.random(n) < noise
        found[alone] = random.random(int(alone.sum()))
        return found

    held = np.zeros(2)
    for _ in range(runs):
        chance = chances()
        drops = (chance < lost[groups]).astype(np.int64) - (chance > 1 - gained[groups])
        effect = design_effect(drops, groups)
        low, high = tango_interval(int((drops > 0).sum()), int((drops < 0).sum()), n, effect=effect)
        held[0] += low <= sizes @ (lost - gained) / n <= high
        correct = chances() < named[groups]
        low, high = wilson_interval(int(correct.sum()), n, design_effect(correct, groups))
        held[1] += low <= sizes @ named / n <= high
    return held / runs


ALL_SIZES = pytest.mark.parametrize(
    "sizes", [SINGLES, REPEATED, A_FEW, UNEQUAL], ids=["singles", "x30", "five x100", "unequal"]
)


@ALL_SIZES
@pytest.mark.parametrize("shares", [LARGE, SMALL, HARDLY_ANY])
def test_intervals_hold_at_any_repetition(sizes, shares):
    assert coverage(sizes, shares, runs=150).min() >= 0.90, "95 %, less three standard errors of 150 runs"


@pytest.mark.slow
@ALL_SIZES
@pytest.mark.parametrize(("shares", "right"), [(LARGE, 0.5), ((0.1, 0.02), 0.65), ((0.05, 0.05), 0.9), (SMALL, 0.65)])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_intervals_hold_at_any_repetition_over_many_runs(sizes, shares, right, noise):
    assert coverage(sizes, shares, right, noise, runs=1500).min() >= 0.92, "without copies too: counts are whole"


def test_intervals_hold_where_copied_faces_are_the_hard_ones():
    """Copies of a rare class, say: an effective number of faces alone, without the variance between groups, fails."""
    many = np.concatenate([np.ones(3000, np.int64), np.full(5, 100)])
    assert coverage(many, SMALL, 0.98, of_copied=(0.3, 0.1, 0.5), runs=200).min() >= 0.90


def test_counting_copies_as_faces_would_not_hold():
    random = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        lost, gained, _ = random.multinomial(200, [0.1, 0.1, 0.8]) * 30
        low, high = tango_interval(int(lost), int(gained), 6000)
        held += low <= 0 <= high
    assert held < 80, "about 28 % of the intervals, not 95 %"
