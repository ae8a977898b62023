"""Batch norms folded into the convolutions before them: the weights of a network for its twin without them."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgefer.models import create
from edgefer.models.vgg import Vgg

WITH_NORMS = {"vgg9": "vgg9_bn"}
"""Network → its twin with a batch norm after each convolution."""


def without_norms(network: nn.Module, name: str, num_classes: int) -> nn.Module:
    """The network ``name``, in evaluation mode, with the logits of ``network``, its twin with batch norms in that mode.

    Args:
        network: the twin; its fully connected layers become the new network's own.
        name: one of :data:`WITH_NORMS`.
        num_classes: number of logits.
    """
    plain = create(name, num_classes)
    assert isinstance(network, Vgg)
    assert isinstance(plain, Vgg)
    layers: list[nn.Module] = []
    for layer in network.features:
        if isinstance(layer, nn.BatchNorm2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)  # type: ignore[type-var]
        else:
            layers.append(layer)
    plain.features, plain.classifier = nn.Sequential(*layers), network.classifier
    return plain.eval()
