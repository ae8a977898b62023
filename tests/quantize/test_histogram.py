import math

import numpy as np
import pytest

from edgefer.quantize.histogram import HALF_BINS, Histogram


def batches(seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [
        (random.normal(0, scale, (7, 50_001)) * (random.random((7, 50_001)) > 0.3)).astype(np.float32)
        for scale in (0.01, 0.3, 5.0, 0.002, 40.0)
    ]


def test_growing_by_merging_is_exactly_one_pass_at_the_final_range():
    histogram = Histogram()
    for batch in batches():
        assert histogram.add(batch)
    everything = np.concatenate([batch.ravel() for batch in batches()])
    counts, edges = np.histogram(
        everything.astype(np.float64), bins=2 * HALF_BINS, range=(histogram.edges[0], -histogram.edges[0])
    )
    np.testing.assert_array_equal(histogram.edges, edges)
    np.testing.assert_array_equal(histogram.counts, counts)
    assert histogram.count == everything.size
    assert histogram.zeros == int((everything == 0).sum()) > 0
    assert (histogram.minimum, histogram.maximum) == (everything.min(), everything.max())


def test_the_range_is_the_least_power_of_two_above_every_magnitude():
    histogram = Histogram()
    histogram.add(np.array([-4.0, 1.0], np.float32))  # −4 itself must lie inside, +4 would be the open end
    assert 2.0**histogram.exponent == 8.0
    assert histogram.width == 8.0 / HALF_BINS


def test_order_and_division_into_batches_do_not_matter():
    one, other = Histogram(), Histogram()
    for batch in batches():
        one.add(batch)
    for batch in reversed(batches()):
        for part in np.array_split(batch, 3, axis=1):
            other.add(part)
    assert one.to_dict() == other.to_dict()


def test_merge_equals_adding_everything_to_one():
    left, right, whole = Histogram(), Histogram(), Histogram()
    for number, batch in enumerate(batches()):
        (left if number % 2 else right).add(batch)
        whole.add(batch)
    before = right.to_dict()
    left.merge(right)
    assert left.to_dict() == whole.to_dict()
    assert right.to_dict() == before


def test_tiny_negative_values_stay_on_their_side_of_zero():
    histogram = Histogram()
    histogram.add(np.array([-1e-9, 1e-9, 0.0, 1.0], np.float32))
    assert histogram.counts[HALF_BINS - 1] == 1
    assert histogram.counts[HALF_BINS] == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused_and_nothing_counted(bad):
    histogram = Histogram()
    assert not histogram.add(np.array([1.0, bad], np.float32))
    assert histogram.count == 0
    assert histogram.counts.sum() == 0


def test_zeros_and_nothing_are_fine():
    histogram = Histogram()
    assert histogram.add(np.zeros((2, 0), np.float32))
    assert histogram.count == 0
    assert histogram.add(np.zeros(10, np.float32))
    assert (histogram.minimum, histogram.maximum, histogram.zeros, histogram.count) == (0.0, 0.0, 10, 10)


def test_dictionary_round_trip_and_its_checks():
    histogram = Histogram()
    histogram.add(batches()[1])
    content = histogram.to_dict()
    assert Histogram.from_dict(content).to_dict() == content
    damaged = {
        "the exponent 9999 is": {"exponent": 9999},
        "zeros do not fit theirs": {"zeros": content["count"]},
        "fewer than no values": {"counts": [-1, content["count"] + 1]},
        "its extremes nan": {"min": math.nan},
        "its extremes .*inf do not": {"max": math.inf},
    }
    for message, damage in damaged.items():
        with pytest.raises(ValueError, match=message):
            Histogram.from_dict({**content, **damage})
    with pytest.raises(ValueError, match="its bins sum to"):
        Histogram.from_dict({**content, "count": content["count"] + 1})
    with pytest.raises(ValueError, match="outside"):
        Histogram.from_dict({**content, "first_bin": 2000})
