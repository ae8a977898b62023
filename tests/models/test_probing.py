"""Which size of faces a network is for, from what it runs with; tests/cli/test_contracts.py has the rest."""

import sys
import types

import pytest

pytest.importorskip("torch")

from torch import nn

from edgefer.models.probing import probe


class MeanOverFace(nn.Sequential):
    def forward(self, x):
        return super().forward(x).mean((2, 3))


NETWORKS = {
    "fully convolutional": lambda num_classes: MeanOverFace(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, num_classes, 1)
    ),
    "adaptive pool": lambda num_classes: nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, num_classes)
    ),
    "large field": lambda num_classes: nn.Sequential(
        nn.Conv2d(1, 4, 90), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes)
    ),
    "flattened": lambda num_classes: nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 48 * 48, num_classes)
    ),
    "pool that rounds": lambda num_classes: nn.Sequential(
        nn.MaxPool2d(3), nn.Flatten(), nn.Linear(16 * 16, num_classes)
    ),
    "unusual": lambda num_classes: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 55 * 55, num_classes)),
    "unusual pool that rounds": lambda num_classes: nn.Sequential(
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(30 * 30, num_classes)
    ),
}


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("fully convolutional", 0, "it runs with any size: 40 to 300 pixels were tried"),
        ("adaptive pool", 0, "it runs with any size: 40 to 300 pixels were tried"),
        ("large field", 0, "it runs with any size: 96 to 300 pixels were tried"),
        ("flattened", 48, "faces of 48×48 pixels"),
        ("pool that rounds", 48, "faces of 48×48 pixels (the usual size among 48 to 50, which run)"),
        ("unusual", 57, "faces of 57×57 pixels"),
        ("unusual pool that rounds", 0, "it runs with 60 to 61 pixels"),
    ],
)
def test_a_size_is_stated_only_where_it_is_fixed(name, size, words, monkeypatch):
    module = types.ModuleType("networks_of_sizes")
    module.net = NETWORKS[name]
    monkeypatch.setitem(sys.modules, "networks_of_sizes", module)
    told = probe("networks_of_sizes:net")
    assert f"\nheight = {size}\n" in told.text
    if size:
        assert words in told.known
    else:
        assert any(words in line for line in told.missing)
        assert not any("pixels" in line for line in told.known)
