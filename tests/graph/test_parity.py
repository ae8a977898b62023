"""Parity: the numbers it gives, and what it refuses."""

import numpy as np
import pytest

from edgefer.errors import EdgeferError
from edgefer.graph.parity import Parity, measure_parity, parity_faces, require_parity


class Fake:
    """A fake session: logits from the mean of each face, changed by ``change``."""

    version = "0"
    inputs = outputs = ()

    def __init__(self, name, change=lambda logits: logits):
        self.name, self.change = name, change

    def run(self, feeds):
        mean = feeds["faces"].reshape(len(feeds["faces"]), -1).mean(axis=1, dtype=np.float64)
        return {"logits": self.change(np.stack([mean, 255 - mean, np.full_like(mean, 100)], axis=1))}


def test_batches_are_one_three_one_and_five_faces_of_the_contract(contract):
    batches = parity_faces(contract)
    assert [len(batch) for batch in batches] == [1, 3, 1, 5]
    assert all(batch.shape[1:] == (8, 8, 1) and batch.dtype == np.uint8 for batch in batches)
    assert batches[-1].max() > 245
    assert batches[-1].min() < 10
    assert all((a == b).all() for a, b in zip(batches, parity_faces(contract), strict=True))


def test_numbers(contract):
    def shifted(logits):
        logits[0, 0] += 3
        return logits

    parity = measure_parity(Fake("a"), Fake("b", shifted), contract)
    assert parity.max_abs_diff == pytest.approx(3)
    assert parity.faces == 10
    assert parity.relative == pytest.approx(3 / parity.logit_scale)
    same = measure_parity(Fake("a"), Fake("b"), contract)
    assert (same.max_abs_diff, same.top1_agreement) == (0, 1)


def test_agreement_counts_top_classes(contract):
    parity = measure_parity(Fake("a"), Fake("b", lambda logits: logits[:, ::-1]), contract)
    assert parity.top1_agreement < 0.5


def test_too_far_apart_says_both_numbers():
    with pytest.raises(EdgeferError) as error:
        require_parity(Parity(0.3, 10.0, 0.9, 10), 1e-2, "PyTorch and ONNX Runtime")
    assert error.value.message == (
        "PyTorch and ONNX Runtime differ by 0.3 in logits of up to 10 (0.03 of their scale, 0.01 is allowed; "
        "same top class for 90% of 10 faces)"
    )
    require_parity(Parity(0.3, 100.0, 0.9, 10), 1e-2, "x")  # the same difference in larger logits is small


def test_logits_that_are_all_zero_are_compared_absolutely():
    require_parity(Parity(0.0, 0.0, 1.0, 10), 1e-4, "x")
    with pytest.raises(EdgeferError):
        require_parity(Parity(1e-3, 0.0, 1.0, 10), 1e-4, "x")


def test_a_baked_in_batch_is_said_so(contract):
    with pytest.raises(EdgeferError, match=r"batch of 3 gave logits of shape \(1, 3\) in b, \(3, 3\) in a") as error:
        measure_parity(Fake("a"), Fake("b", lambda logits: logits[:1]), contract)
    assert "torch.flatten(x, 1)" in error.value.hint


def test_logits_that_are_not_finite(contract):
    with pytest.raises(EdgeferError, match="not finite in b") as error:
        measure_parity(Fake("a"), Fake("b", lambda logits: logits * np.inf), contract)
    assert "check its weights" in error.value.hint
