"""Synthetic faces: their form, their determinism, and that an expression can be seen."""

import numpy as np

from edgefer.data import synthetic_faces


def test_shapes_types_and_balance():
    images, labels = synthetic_faces(71, seed=0)
    assert images.shape == (71, 48, 48, 1)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert sorted(np.bincount(labels).tolist()) == [10] * 6 + [11]
    assert synthetic_faces(3, seed=0, size=64)[0].shape == (3, 64, 64, 1)
    assert synthetic_faces(0, seed=0)[0].shape == (0, 48, 48, 1)


def test_the_seed_decides():
    first, again, other = synthetic_faces(20, seed=4), synthetic_faces(20, seed=4), synthetic_faces(20, seed=5)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_faces_vary_and_use_the_range():
    images = synthetic_faces(140, seed=1)[0].astype(np.float64)
    assert images.std(axis=(1, 2, 3)).min() > 3
    assert images.mean(axis=(1, 2, 3)).std() > 15
    assert 90 < images.mean() < 165


def test_expressions_differ_where_they_should(faces):
    """The mean surprised mouth is darker than the mean neutral one; a smile is brighter than an open mouth."""
    images, labels = synthetic_faces(1400, seed=2)
    standard = images[..., 0].astype(np.float64)
    standard -= standard.mean(axis=(1, 2), keepdims=True)
    standard /= standard.std(axis=(1, 2), keepdims=True) + 1e-6
    mouth = standard[:, 36:43, 19:29].mean(axis=(1, 2))
    neutral, surprise, happy = (mouth[labels == label].mean() for label in (6, 5, 3))
    assert surprise < neutral - 0.2
    assert surprise < happy - 0.2


def test_nearest_class_mean_is_better_than_chance_and_far_from_perfect():
    images, labels = synthetic_faces(1400, seed=3)
    flat = images.reshape(1400, -1).astype(np.float64)
    flat = (flat - flat.mean(axis=1, keepdims=True)) / (flat.std(axis=1, keepdims=True) + 1e-6)
    means = np.stack([flat[:700][labels[:700] == label].mean(axis=0) for label in range(7)])
    guesses = (flat[700:] @ means.T - 0.5 * (means**2).sum(axis=1)).argmax(axis=1)
    assert 0.18 < np.mean(guesses == labels[700:]) < 0.8
