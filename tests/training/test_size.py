"""Faces of another size than the network's own."""

import pytest

from edgefer.errors import EdgeferError
from edgefer.models.weights import load_weights
from edgefer.training import train

from .conftest import quick


def test_weights_of_a_size_carry_it_and_begin_runs_of_others(tmp_path, faces):
    large, small = tmp_path / "large.safetensors", tmp_path / "small.safetensors"
    train(faces, "mini_xception", large, quick(epochs=1, size=64))
    assert load_weights(large).contract.face_shape == (64, 64, 1)
    train(faces, "mini_xception", small, quick(epochs=1), init=large, teachers=[large])
    assert load_weights(small).contract.face_shape == (48, 48, 1)


@pytest.mark.parametrize(("model", "size"), [("lenet", 64), ("vgg9", 64), ("ddamfn", 64)])
def test_a_size_that_a_network_cannot_take(tmp_path, faces, model, size):
    out = tmp_path / "w.safetensors"
    with pytest.raises(EdgeferError, match=f"{model} cannot take faces of {size}×{size}") as caught:
        train(faces, model, out, quick(epochs=1, size=size))
    assert "its own size is" in caught.value.hint
    assert list(tmp_path.iterdir()) == []
