"""The 1×1 convolution of stride 2 beside a pooled branch, kept away from a fault of PyTorch's CPU kernels."""

from __future__ import annotations

from torch import Tensor, nn

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
