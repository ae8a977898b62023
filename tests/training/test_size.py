"""Faces of another size than the network's own."""

import pytest
import torch

from edgefer.errors import EdgeferError
from edgefer.models.importing import import_weights
from edgefer.models.weights import load_weights
from edgefer.training import train

from .conftest import quick, synthetic


def test_weights_of_a_size_carry_it_and_begin_runs_of_theirs_and_others(tmp_path, faces):
    large, small, again, fp16 = (tmp_path / f"{name}.safetensors" for name in ("large", "small", "again", "fp16"))
    train(faces, "mini_xception", large, quick(epochs=1, size=64))
    assert load_weights(large).contract.face_shape == (64, 64, 1)
    train(faces, "mini_xception", small, quick(epochs=1, size=48, lr=1e-9), init=large, teachers=[large])
    assert load_weights(small).contract.face_shape == (48, 48, 1)
    kernel = "base.0.weight"
    assert torch.allclose(load_weights(small).state[kernel], load_weights(large).state[kernel], atol=1e-6)
    train(faces, "mini_xception", again, quick(epochs=1), init=large)
    assert load_weights(again).contract.face_shape == (64, 64, 1)
    import_weights(large, "mini_xception", fp16, fp16=True)
    assert load_weights(fp16).contract.face_shape == (64, 64, 1)
    import_weights(large, "mini_xception", fp16, classes=("a", "b"), drop_head=True)
    assert load_weights(fp16).contract.face_shape == (64, 64, 1)
    assert load_weights(fp16).contract.labels == ("a", "b")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 64}, "lenet cannot take"),
        ({"vote_share": 0.5}, "has no FER"),
        ({"teachers": ["no.safetensors"]}, "there are no weights no.safetensors"),
        ({"init": "no.safetensors"}, "there are no weights no.safetensors"),
    ],
)
def test_what_a_run_cannot_take_costs_no_reading(tmp_path, monkeypatch, changes, message):
    faces = synthetic(tmp_path / "d.npz", 60)
    monkeypatch.setattr(faces._source, "blocks", lambda _: pytest.fail("faces were read"))
    begun = {key: changes.pop(key) for key in ("teachers", "init") if key in changes}
    with pytest.raises(EdgeferError, match=message):
        train(faces, "lenet", tmp_path / "w.safetensors", quick(epochs=1, **changes), **begun)


@pytest.mark.parametrize(("model", "size"), [("lenet", 64), ("vgg9", 64), ("ddamfn", 64)])
def test_a_size_that_a_network_cannot_take(tmp_path, faces, model, size):
    out = tmp_path / "w.safetensors"
    with pytest.raises(EdgeferError, match=f"{model} cannot take faces of {size}×{size}") as caught:
        train(faces, model, out, quick(epochs=1, size=size))
    assert "its own size is" in caught.value.hint
    assert list(tmp_path.iterdir()) == []
