"""The networks as test parameters: those that take seconds are slow tests."""

import pytest

from edgefer.models import names

BIG = {"cnn_simple", "ddamfn", "facecnn", "resnet18", "vgg11", "vgg9_bn", "vgg_small"}


def networks(*, slow=BIG):
    """Every network's name; those in ``slow`` are marked."""
    return [pytest.param(name, marks=pytest.mark.slow if name in slow else ()) for name in names()]


EVERY = networks()
