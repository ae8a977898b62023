"""Another order of the classes: found where it is there, and hardly ever where it is not."""

import itertools

import numpy as np
import pytest

from edgefer.data.classes import AFFECTNET, FER2013, FERPLUS
from edgefer.measure.accuracy import Predictions
from edgefer.measure.label_order import MIN_FACES, best_assignment, best_order, order_warning, reorder

SHARES = (0.13, 0.015, 0.14, 0.25, 0.17, 0.12, 0.175)  # FER2013's classes


def answers_like(labels, generator, accuracy=0.6, classes=7):
    """As a network errs: to some classes more than to others."""
    reached = generator.dirichlet(np.full(classes, 0.7), size=classes).cumsum(axis=1)[labels]
    wrong = (generator.random((len(labels), 1)) > reached[:, :-1]).sum(axis=1)
    return np.where(generator.random(len(labels)) < accuracy, labels, wrong)


def predicted(labels, answers, classes=FER2013):
    logits = np.eye(len(classes), dtype=np.float32)[answers]
    return Predictions(logits, labels.astype(np.int64), classes, "f" * 64, "w.onnx")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6])
def test_no_assignment_is_better(size):
    generator = np.random.default_rng(size)
    for most in (2, 4, 1000):
        gains = generator.integers(0, most, (size, size))
        chosen = best_assignment(gains)
        best = max(sum(gains[i, p[i]] for i in range(size)) for p in itertools.permutations(range(size)))
        assert sorted(chosen) == list(range(size))
        assert gains[np.arange(size), chosen].sum() == best


def test_what_is_never_answered_keeps_its_name():
    labels = np.array([0, 0, 1, 1, 2, 3] * 10)
    assert best_order(labels, np.where(labels == 1, 0, labels) * (labels < 2), 5).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("wrong", [tuple(sorted(FER2013)), AFFECTNET[:7], tuple(n for n in FERPLUS if n in FER2013)])
def test_a_wrong_order_is_found_with_500_faces(wrong):
    """Even a network of 40 %."""
    for seed in range(5):
        generator = np.random.default_rng(seed)
        labels = generator.choice(7, 500, p=SHARES)
        outputs = np.array([wrong.index(name) for name in FER2013])
        warning = order_warning(predicted(labels, outputs[answers_like(labels, generator, 0.4)]), "faces.npz")
        assert warning is not None
        assert "`edgefer contract check`, with labelled faces other than faces.npz, shows" in warning


def test_the_order_is_named_as_the_contract_would_have_it():
    generator = np.random.default_rng(0)
    labels = generator.choice(7, 3000, p=SHARES)
    alphabetical = tuple(sorted(FER2013))
    answers = np.array([alphabetical.index(name) for name in FER2013])[answers_like(labels, generator, 0.7)]
    assert f" as {', '.join(alphabetical)}:" in order_warning(predicted(labels, answers), "faces.npz")


def test_a_right_order_is_hardly_ever_doubted():
    """Another network each time, all weak, that takes some classes for others more often than not."""
    generator = np.random.default_rng(1)
    alarms = 0
    for _ in range(500):
        labels = generator.choice(7, int(generator.integers(MIN_FACES, 600)), p=SHARES)
        alarms += order_warning(predicted(labels, answers_like(labels, generator, 0.3)), "d") is not None
    assert alarms <= 5


def test_the_best_of_all_orders_is_too_good_on_the_faces_that_chose_it():
    generator = np.random.default_rng(2)
    labels, answers = generator.integers(0, 7, (2, 500))  # a network that guesses
    other = reorder(labels, answers, np.arange(500), 7)
    chosen = best_order(labels, answers, 7)[answers]
    assert (chosen == labels).mean() > 0.17
    assert (other.answers == labels).mean() < 0.16


def test_near_duplicates_stand_in_one_half():
    """Ten copies of each face of a network that guesses: an order that fits some of them fits all of them."""
    generator = np.random.default_rng(3)
    labels, answers = np.repeat(generator.integers(0, 7, (2, 60)), 10, axis=1)
    apart = reorder(labels, answers, np.arange(600) // 10, 7)
    torn = reorder(labels, answers, np.arange(600), 7)
    assert (apart.answers == labels).mean() < 0.2 < (torn.answers == labels).mean()


def test_few_faces_say_nothing():
    labels = np.arange(MIN_FACES - 1) % 7
    assert order_warning(predicted(labels, (labels + 1) % 7), "d") is None
