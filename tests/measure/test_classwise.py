"""Scores by class, calibration error and divergence, against values worked out by hand or from another formula."""

import numpy as np
import pytest

from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import (
    Predictions,
    calibration_error,
    class_scores,
    kl_divergence,
    macro_f1,
    macro_f1_ci95,
)
from edgefer.measure.paired import class_drops, simultaneous_z, tango_interval

CLASSES = ("angry", "happy", "sad")


def predictions(labels, answers=None, logits=None, classes=CLASSES):
    labels = np.array(labels)
    if logits is None:
        logits = np.eye(len(classes))[np.array(answers)] * 4
    return Predictions(np.asarray(logits, np.float32), labels, classes, "0" * 64, "net")


def test_precision_recall_and_f1_of_a_known_confusion():
    net = predictions([0, 0, 0, 0, 1, 1, 1, 2], [0, 0, 1, 1, 1, 1, 0, 2])
    angry, happy, sad = class_scores(net)
    assert (angry.n, angry.precision, angry.recall) == (4, 2 / 3, 2 / 4)
    assert angry.f1 == pytest.approx(2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2))
    assert (happy.n, happy.precision, happy.recall) == (3, 2 / 4, 2 / 3)
    assert (sad.precision, sad.recall, sad.f1) == (1, 1, 1)
    assert macro_f1(net) == pytest.approx((angry.f1 + happy.f1 + 1) / 3)


def test_a_class_without_faces_is_unknown_and_one_never_answered_has_no_precision():
    net = predictions([0, 0, 1], [0, 0, 0])
    angry, happy, sad = class_scores(net)
    assert (happy.precision, happy.recall, happy.f1) == (None, 0, 0)
    assert (sad.n, sad.precision, sad.recall, sad.f1) == (0, None, None, None)
    assert macro_f1(net) == pytest.approx((angry.f1 + 0) / 2), "the class without faces is left out"


def test_interval_of_macro_f1_is_that_of_resampled_faces():
    rng = np.random.default_rng(5)
    labels = rng.choice(3, 300, p=[0.6, 0.3, 0.1])
    net = predictions(labels, np.where(rng.random(300) < 0.7, labels, rng.integers(0, 3, 300)))
    found = []
    for _ in range(1500):
        rows = rng.integers(0, 300, 300)
        found.append(macro_f1(predictions(labels[rows], logits=net.logits[rows])))
    assert macro_f1_ci95(net) == pytest.approx(np.percentile(found, (2.5, 97.5)), abs=6e-3)
    assert macro_f1_ci95(net)[0] < macro_f1(net) < macro_f1_ci95(net)[1]
    assert macro_f1_ci95(net) == macro_f1_ci95(net) != macro_f1_ci95(net, seed=1)


def test_interval_of_macro_f1_leaves_out_a_class_without_faces_as_the_figure_does():
    net = predictions([0, 0, 1, 1], [0, 0, 1, 1])
    assert macro_f1_ci95(net) == (1.0, 1.0)


def test_calibration_error_of_known_confidences():
    # two bins: 0.9 confident and right 3 of 4 times, 0.6 confident and right 1 of 2 times
    def row(confidence):
        return np.log([confidence, (1 - confidence) / 2, (1 - confidence) / 2])

    logits = [row(0.9)] * 4 + [row(0.6)] * 2
    net = predictions([0, 0, 0, 1, 0, 1], logits=logits)
    expected = 4 / 6 * abs(0.75 - 0.9) + 2 / 6 * abs(0.5 - 0.6)
    assert calibration_error(net) == pytest.approx(expected, abs=1e-6)
    sure = predictions([0, 1, 2], logits=np.eye(3) * 100)
    assert calibration_error(sure) == pytest.approx(0, abs=1e-9)


def test_divergence_is_zero_for_equals_and_right_for_known_distributions():
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.5, 0.25])
    one, two = predictions([0], logits=[np.log(p) + 7]), predictions([0], logits=[np.log(q)])
    assert kl_divergence(one, one) == 0
    assert kl_divergence(one, two) == pytest.approx(float((p * np.log(p / q)).sum()), rel=1e-5)


def test_chunks_change_nothing(monkeypatch):
    generator = np.random.default_rng(0)
    one = predictions(generator.integers(0, 3, 500), logits=generator.normal(size=(500, 3)))
    two = predictions(one.labels, logits=generator.normal(size=(500, 3)))
    whole = calibration_error(one), kl_divergence(one, two)
    monkeypatch.setattr("edgefer.measure.accuracy._CHUNK", 7)
    assert (calibration_error(one), kl_divergence(one, two)) == pytest.approx(whole)


def test_class_drops_are_paired_and_wider_than_alone():
    labels = np.repeat([0, 1, 2], 100)
    before = predictions(labels, labels)
    answers = labels.copy()
    answers[:5] = 1  # five of class 0 lost
    angry, happy, _ = class_drops(before, predictions(labels, answers))
    assert angry.drop_pp == 5
    alone = [100 * end for end in tango_interval(5, 0, 100)]
    assert angry.ci_pp[0] < alone[0] < 5 < alone[1] < angry.ci_pp[1]
    assert angry.ci_pp == pytest.approx([100 * end for end in tango_interval(5, 0, 100, simultaneous_z(3))])
    assert happy.drop_pp == 0
    assert not happy.seen
    assert happy.ci_pp[1] > 0, "no difference seen is not no difference"


def test_a_class_without_faces_has_no_drop_and_costs_no_correction():
    labels = np.repeat([0, 1], 50)
    one = predictions(labels, labels)
    drops = class_drops(one, one)
    assert (drops[2].n, drops[2].drop_pp, drops[2].ci_pp, drops[2].seen) == (0, None, None, False)
    assert drops[0].ci_pp == pytest.approx([100 * end for end in tango_interval(0, 0, 50, simultaneous_z(2))])


def test_simultaneous_intervals_hold_together_as_often_as_they_say():
    assert simultaneous_z(1) == pytest.approx(1.959964, abs=1e-6)
    assert simultaneous_z(7) == pytest.approx(2.6828, abs=1e-3)  # (1 + 0.95^(1/7)) / 2 = 0.99635
    with pytest.raises(EdgeferError, match="1 or more comparisons"):
        simultaneous_z(0)
    generator = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), 80)
    together = 0
    for _ in range(150):
        lost, gained = (generator.random(240) < share for share in (0.08, 0.08))
        before = np.where(gained & ~lost, (labels + 1) % 3, labels)
        after = np.where(lost & ~gained, (labels + 1) % 3, labels)
        drops = class_drops(predictions(labels, before), predictions(labels, after))
        together += not any(drop.seen for drop in drops)  # the true drop of every class is 0
    assert together >= 136, "95 % of 150 are 142; apart they would be about 129"
