"""What a run begins with."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from edgefer.errors import EdgeferError
from edgefer.models import create, default_contract
from edgefer.models.weights import load_weights, save_weights
from edgefer.training.beginning import begin, contract_to_learn

CLASSES = ("happy", "sad", "neutral")


def save(path, name, *, classes=CLASSES):
    """The network ``name``, saved with batch norms as training leaves them: none of their numbers is 0 or 1."""
    torch.manual_seed(3)
    network = create(name, len(classes)).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.weight, 0.5, 1.5),
                (layer.bias, -0.5, 0.5),
                (layer.running_mean, -0.5, 0.5),
                (layer.running_var, 0.5, 2.0),
            ):
                nn.init.uniform_(tensor, low, high)
    save_weights(path, network.state_dict(), default_contract(name, classes))
    return network


def test_a_network_without_batch_norms_begins_as_its_twin_with_them(tmp_path, capsys):
    file = tmp_path / "bn.safetensors"
    twin = save(file, "vgg9_bn")
    begun = begin(default_contract("vgg9", CLASSES), file, (), 1.0)
    assert [type(layer) for layer in begun.network.modules()] == [type(layer) for layer in create("vgg9", 3).modules()]
    faces = torch.rand(4, 1, 48, 48)
    with torch.inference_mode():
        expected = twin(faces)
        torch.testing.assert_close(begun.network(faces), expected, atol=1e-4 * float(expected.std()), rtol=1e-4)
    assert begun.lineage == {"init_sha256": load_weights(file).sha256}
    assert "folded" in capsys.readouterr().err


def test_the_twins_classes_count(tmp_path):
    file = tmp_path / "bn.safetensors"
    save(file, "vgg9_bn", classes=("a", "b", "c"))
    with pytest.raises(EdgeferError, match="is for the classes a, b, c"):
        begin(default_contract("vgg9", CLASSES), file, (), 1.0)


def test_norms_are_not_made_up(tmp_path):
    file = tmp_path / "plain.safetensors"
    save(file, "vgg9")
    with pytest.raises(EdgeferError, match="holds weights of 'vgg9'"):
        begin(default_contract("vgg9_bn", CLASSES), file, (), 1.0)


def test_a_variant_with_other_tensors_is_another_network(tmp_path):
    file = tmp_path / "48.safetensors"
    save(file, "mini_xception_keras48")
    with pytest.raises(EdgeferError, match="holds weights of 'mini_xception_keras48'") as caught:
        begin(default_contract("mini_xception_keras", CLASSES), file, (), 1.0)
    assert caught.value.hint.startswith("--model mini_xception_keras48")


def test_size_and_crop_are_those_of_the_weights(tmp_path, capsys):
    file = tmp_path / "w.safetensors"
    own = default_contract("mini_xception", CLASSES)
    state = create("mini_xception", 3).state_dict()
    save_weights(file, state, replace(own, height=64, width=64, crop_margin=0.2))
    found = contract_to_learn("mini_xception", CLASSES, None, file)
    assert found == replace(own, height=64, width=64, crop_margin=0.2)
    assert f"64×64 pixels, as {file} takes them" in capsys.readouterr().err
    assert contract_to_learn("mini_xception", CLASSES, 48, file) == replace(own, crop_margin=0.2)
    assert capsys.readouterr().err == ""
    save_weights(file, state, replace(own, test_time_flip=True))
    assert contract_to_learn("mini_xception", CLASSES, None, file) == own  # a step looks at one side
    save_weights(file, state, replace(own, height=64))
    with pytest.raises(EdgeferError, match="64×48 pixels, and training makes square ones"):
        contract_to_learn("mini_xception", CLASSES, None, file)
    assert contract_to_learn("mini_xception", CLASSES, 64, file).face_shape == (64, 64, 1)
