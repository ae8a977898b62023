import math

import numpy as np
import pytest

from edgefer.errors import EdgeferError
from edgefer.quantize.ranges import HALF_BINS, METHODS, Chosen, Histogram, threshold


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
    end = HALF_BINS * histogram.width
    counts, _ = np.histogram(everything.astype(np.float64), bins=2 * HALF_BINS, range=(-end, end))
    np.testing.assert_array_equal(histogram.counts, counts)
    assert histogram.count == everything.size
    assert histogram.zeros == int((everything == 0).sum()) > 0
    assert (histogram.minimum, histogram.maximum) == (everything.min(), everything.max())


def test_the_range_is_the_smallest_power_of_two_above_every_magnitude():
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
    np.testing.assert_array_equal(one.counts, other.counts)
    assert (one.minimum, one.maximum, one.count, one.zeros) == (other.minimum, other.maximum, other.count, other.zeros)


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


def histogram_of(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.add(values.astype(np.float32))
    return histogram


NORMAL = np.random.default_rng(0).normal(0, 1, 1_000_000)
SPIKED = np.where(np.random.default_rng(1).random(1_000_000) < 0.9, 0.0, np.abs(NORMAL))  # like a ReLU's output


def test_minmax_is_exact():
    assert threshold(histogram_of(NORMAL), "minmax", symmetric=False) == (
        np.float32(NORMAL.min()),
        np.float32(NORMAL.max()),
    )


@pytest.mark.parametrize("percentile", [99.0, 99.9, 99.99])
def test_percentile_is_that_of_the_values_to_within_a_bin(percentile):
    histogram = histogram_of(NORMAL)
    low, high = threshold(histogram, "percentile", symmetric=False, percentile=percentile)
    assert high == pytest.approx(np.percentile(NORMAL, percentile), abs=1.5 * histogram.width)
    assert low == pytest.approx(np.percentile(NORMAL, 100 - percentile), abs=1.5 * histogram.width)
    low, high = threshold(histogram, "percentile", symmetric=True, percentile=percentile)
    assert low == -high
    assert high == pytest.approx(np.percentile(np.abs(NORMAL), percentile), abs=1.5 * histogram.width)


def test_percentile_100_is_minmax():
    histogram = histogram_of(NORMAL)
    assert threshold(histogram, "percentile", symmetric=False, percentile=100) == threshold(
        histogram, "minmax", symmetric=False
    )


def test_mse_finds_the_known_optimum_of_a_normal_distribution():
    # 8-bit uniform quantiser of N(0, 1): optimum clip 3.92 σ (Banner et al. 2019, ACIQ, table of α for 8 bits)
    low, high = threshold(histogram_of(NORMAL), "mse", symmetric=True)
    assert low == -high
    assert high == pytest.approx(3.92, abs=0.12)


def test_mse_is_not_worse_than_minmax_and_percentile_on_the_values_themselves():
    values = np.random.default_rng(2).laplace(0, 1, 400_000)

    def error(method: str) -> float:
        low, high = threshold(histogram_of(values), method, symmetric=False)
        scale = (high - low) / 255
        zero = np.rint(-low / scale)
        levels = np.clip(np.rint(values / scale) + zero, 0, 255)
        return float((((levels - zero) * scale - values) ** 2).mean())

    assert error("mse") < 0.8 * error("minmax")
    assert error("mse") <= 1.01 * error("percentile")


def test_entropy_ignores_the_spike_at_zero():
    with_spike = threshold(histogram_of(SPIKED), "entropy", symmetric=True)[1]
    without = threshold(histogram_of(SPIKED[SPIKED > 0]), "entropy", symmetric=True)[1]
    assert with_spike == pytest.approx(without, rel=0.02)
    assert 3.0 < with_spike <= np.abs(NORMAL).max()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    "values", [np.zeros(100), np.full(100, 3.0), np.full(100, -3.0), np.abs(NORMAL), NORMAL * 1e-30]
)
def test_zero_lies_within_and_the_extremes_bound(method, symmetric, values):
    low, high = threshold(histogram_of(values), method, symmetric=symmetric)
    assert low <= 0 <= high
    if symmetric:
        assert low == -high
        assert high <= np.abs(values.astype(np.float32)).max()
    else:
        assert low >= min(values.astype(np.float32).min(), 0)
        assert high <= max(values.astype(np.float32).max(), 0)


def test_bad_input_is_named():
    histogram = histogram_of(NORMAL)
    with pytest.raises(EdgeferError, match="no calibration method 'median'") as caught:
        threshold(histogram, "median", symmetric=True)
    assert caught.value.hint == "one of: minmax, percentile, mse, entropy"
    with pytest.raises(EdgeferError, match=r"above 50 and at most 100, not 0\.9999") as caught:
        threshold(histogram, "percentile", symmetric=True, percentile=0.9999)
    assert "99.99" in caught.value.hint
    with pytest.raises(EdgeferError, match="histogram is empty"):
        threshold(Histogram(), "minmax", symmetric=True)


def test_a_table_keeps_what_every_method_chose():
    histogram = histogram_of(SPIKED - 0.1)
    kept = Chosen.of(histogram)
    assert (kept.minimum, kept.maximum) == (histogram.minimum, histogram.maximum)
    for method in METHODS:
        for symmetric in (False, True):
            assert threshold(kept, method, symmetric=symmetric) == threshold(histogram, method, symmetric=symmetric)
    assert len({kept.spans[method] for method in METHODS}) == 4
