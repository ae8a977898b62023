"""First weights, for networks that start from nothing."""

from __future__ import annotations

from torch import nn


def kaiming(network: nn.Module, last: nn.Conv2d | nn.Linear) -> None:
    """He's normal initialisation for convolutions and linear layers before a ReLU, biases 0.

    Source: He et al., "Delving Deep into Rectifiers" (2015). The fan of the input is used: in a depthwise convolution
    the fan of the output counts channels that one kernel never feeds. The ``last`` layer, which gives the logits,
    starts at N(0, 0.01): a loss at the start of three times a guess's, ln(classes), would cost epochs.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.normal_(last.weight, std=0.01)


def xavier(network: nn.Module) -> None:
    """Glorot's uniform initialisation, for saturating activations; biases 0.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
