"""A small network with what real ones have: batch norm, residual sum, depthwise, PReLU, a reshape by batch size."""

from pathlib import Path

import pytest
import torch
from torch import nn

from edgefer.contract import Contract, Normalisation
from tests.graph.foreign_files import IMAGENET, LABELS, Net, save


class SmallNet(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
        self.slope = nn.PReLU(4)
        self.last = nn.Linear(4 * 4 * 4, classes)

    def forward(self, x):
        x = self.first(x)
        x = nn.functional.max_pool2d(x + self.slope(self.depthwise(x)), 2)
        return self.last(x.reshape(x.size(0), -1))


@pytest.fixture
def contract():
    return Contract(
        labels=("angry", "happy", "sad"),
        height=8,
        width=8,
        channels=1,
        normalisation=Normalisation(1 / 255, (0.5,), (0.25,)),
        architecture="small",
    )


@pytest.fixture
def network():
    torch.manual_seed(1)
    small = SmallNet()
    small.first[1].running_mean.uniform_(-1, 1)
    small.first[1].running_var.uniform_(0.5, 2)
    return small


@pytest.fixture
def small_class():
    return SmallNet


@pytest.fixture
def foreign():
    return Contract(LABELS, 16, 16, 3, IMAGENET, "foreign")


@pytest.fixture
def make(tmp_path):
    def write(shape=(1, 3, 16, 16), axes=None, opset=17, name="foreign.onnx", **options) -> Path:
        torch.manual_seed(3)
        network = Net(**options)
        network.first[1].running_mean.uniform_(-1, 1)
        return save(network, tmp_path / name, shape, axes, opset)

    return write
