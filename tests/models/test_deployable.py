from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgefer.contract import Contract, Normalisation
from edgefer.models.deployable import Deployable


def contract(norm: Normalisation, channels: int) -> Contract:
    return Contract(("a", "b"), 5, 4, channels, norm, "any")


def test_normalises_as_the_formula_says():
    norm = Normalisation(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    module = Deployable(nn.Identity(), contract(norm, 3))
    faces = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
    wanted = ((faces / 255 - norm.mean) / norm.std).transpose(0, 3, 1, 2)
    got = module(torch.from_numpy(faces)).numpy()
    assert got.dtype == np.float32
    assert got.shape == (2, 3, 5, 4)
    assert np.abs(got - wanted).max() < 1e-6


def test_minus_one_to_one_is_exact_at_the_ends():
    module = Deployable(nn.Identity(), contract(Normalisation(1 / 255, (0.5,), (0.5,)), 1))
    got = module(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)).flatten()
    assert got.tolist() == pytest.approx([-1.0, 1.0], abs=1e-7)


def test_takes_floats_on_the_same_scale():
    module = Deployable(nn.Identity(), contract(Normalisation(), 1))
    faces = torch.randint(0, 256, (1, 5, 4, 1), dtype=torch.uint8)
    assert torch.equal(module(faces), module(faces.float()))


def test_no_addition_where_nothing_is_added():
    assert not Deployable(nn.Identity(), contract(Normalisation(), 1)).shifted
    assert Deployable(nn.Identity(), contract(Normalisation(mean=(0.5,)), 1)).shifted


def test_its_constants_are_no_weights():
    module = Deployable(nn.Linear(2, 2), contract(Normalisation(), 1))
    assert set(module.state_dict()) == {"network.weight", "network.bias"}


class Viewing(nn.Module):
    """As many foreign networks are: it flattens by view."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 5 * 4, 2)

    def forward(self, x):
        x = self.conv(x)
        return self.fc(x.view(x.shape[0], -1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("training", [False, True])
def test_networks_that_view_their_maps_run(channels, training):
    torch.manual_seed(0)
    network = Viewing(channels)
    norm = Normalisation(mean=(0.5,) * channels, std=(0.5,) * channels)
    module = Deployable(network, contract(norm, channels)).train(training)
    faces = torch.randint(0, 256, (3, 5, 4, channels), dtype=torch.uint8)
    wanted = network((faces / 127.5 - 1).permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format))
    got = module(faces)
    assert torch.allclose(got, wanted, atol=1e-5)
    got.sum().backward()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_copy_is_no_node_of_the_exported_graph(tmp_path, channels):
    from edgefer.graph.torch_export import export_model

    norm = Normalisation(mean=(0.5,) * channels, std=(0.5,) * channels)
    export_model(Viewing(channels), contract(norm, channels), tmp_path / "m.onnx", simplify=False)
    nodes = onnx.load(tmp_path / "m.onnx").graph.node
    assert [node.op_type for node in nodes][:4] == ["Cast", "Transpose", "Mul", "Add"]


def test_the_zoos_networks_keep_channels_last_which_is_faster():
    from edgefer.models import create, default_contract

    assert not Deployable(create("lenet"), default_contract("lenet", ("a", "b"))).copied
    assert Deployable(nn.Identity(), contract(Normalisation(), 1)).copied


def test_a_flipped_contract_asks_about_both_sides():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 3 * 2, 2))
    one = contract(Normalisation(mean=(0.5,)), 1)
    plain, test_time_flip = Deployable(network, one), Deployable(network, replace(one, test_time_flip=True))
    faces = torch.randint(0, 256, (3, 5, 4, 1), dtype=torch.uint8)
    sides = plain(faces), plain(faces.flip(2))
    assert (sides[0] - sides[1]).abs().max() > 0.01
    assert test_time_flip(faces).shape == (3, 2)
    torch.testing.assert_close(test_time_flip(faces), (sides[0] + sides[1]) / 2)
