"""Which layer of a network gives the logits."""

from __future__ import annotations

from torch import nn


def head_of(network: nn.Module) -> str:
    """The name of the last convolution or fully connected layer."""
    layers: list[str] = [n for n, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    return layers[-1]
