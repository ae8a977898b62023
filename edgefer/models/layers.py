"""Parts that networks of the zoo share: first weights, the layer of the logits, a convolution kept from a fault."""

from __future__ import annotations

from torch import Tensor, nn


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


def last_layer(network: nn.Module) -> str:
    """The name of the last convolution or fully connected layer."""
    layers: list[str] = [n for n, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    return layers[-1]


SAFE_CHANNELS = 16


class Downsample(nn.Conv2d):
    """A 1×1 convolution of stride 2: N×inputs×H×W to N×outputs×⌈H/2⌉×⌈W/2⌉.

    In training, fewer than 16 channels are thinned out first and then convolved, which is the same: oneDNN's gradient
    of such a convolution's weights writes past its workspace where maps are channels-last and larger than about 44×44,
    and kills the process (https://github.com/uxlfoundation/oneDNN/issues/6035).
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__(inputs, outputs, 1, stride=2, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """The even rows and columns, convolved."""
        if self.training and self.in_channels < SAFE_CHANNELS:
            thinned = input[:, :, ::2, ::2]
            return nn.functional.conv2d(thinned, self.weight, self.bias)
        return super().forward(input)
