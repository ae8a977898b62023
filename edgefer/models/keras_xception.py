"""The Keras networks of oarriaga/face_classification: mini_XCEPTION and big_XCEPTION, for their published weights.

Other than :mod:`edgefer.models.mini_xception`, only the last convolution has a bias, and padding is TensorFlow's SAME:
where a stride of 2 meets an even size, the one extra row and column are at the bottom and right. A max-pool says that
by rounding its size up; padding by −∞ instead would give INT8 ranges that hold nothing else.

Source: Arriaga, Valdenegro-Toro and Plöger, "Real-time Convolutional Neural Networks for Emotion and Gender
Classification" (2017).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from edgefer.models.layers import Downsample, kaiming

EPSILON = 1e-3
"""Epsilon of Keras's batch norms."""
MOMENTUM = 0.01
"""1 − Keras's 0.99: the two libraries count from opposite ends."""


def norm(channels: int) -> nn.BatchNorm2d:
    """A batch norm with Keras's defaults."""
    return nn.BatchNorm2d(channels, eps=EPSILON, momentum=MOMENTUM)


def same_pool(size: int) -> nn.MaxPool2d:
    """A max-pool 3×3, stride 2, padded as TensorFlow's SAME pads maps of ``size`` pixels a side."""
    return nn.MaxPool2d(3, stride=2, padding=1) if size % 2 else nn.MaxPool2d(3, stride=2, ceil_mode=True)


class KerasSeparableConv(nn.Module):
    """A depthwise 3×3 convolution, then a 1×1; no biases."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """N×inputs×H×W to N×outputs×H×W."""
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


class KerasResidualModule(nn.Module):
    """Two separable convolutions beside a 1×1 convolution; both halve the sides, or neither does.

    Args:
        inputs, outputs: channels.
        size: pixels a side of its input; an odd and an even size are padded differently.
        halves: whether it halves them.
        relu_first: an activation before the left branch, as in big_XCEPTION.
    """

    def __init__(self, inputs: int, outputs: int, size: int, *, halves: bool = True, relu_first: bool = False) -> None:
        super().__init__()
        self.relu_first = relu_first
        self.left = nn.Sequential(
            KerasSeparableConv(inputs, outputs),
            norm(outputs),
            nn.ReLU(inplace=True),
            KerasSeparableConv(outputs, outputs),
            norm(outputs),
        )
        if halves:
            self.left.append(same_pool(size))
        right = Downsample(inputs, outputs, bias=False) if halves else nn.Conv2d(inputs, outputs, 1, bias=False)
        self.right = nn.Sequential(right, norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """N×inputs×H×W to N×outputs×⌈H/2⌉×⌈W/2⌉; no activation after the sum."""
        out: Tensor = self.left(functional.relu(x) if self.relu_first else x) + self.right(x)
        return out


class KerasXception(nn.Module):
    """Two convolutions without padding, residual modules, and a convolution whose maps' means are the logits.

    Args:
        base: channels of the first two convolutions.
        modules: channels of the residual modules.
        size: pixels a side of the faces.
        stride: stride of the first convolution.
        relu_first: whether the residual modules but the first begin with a ReLU.
        last_halves: whether the last residual module halves the sides, as the others do.
        num_classes: number of logits.
    """

    def __init__(
        self,
        base: tuple[int, int],
        modules: tuple[int, ...],
        *,
        size: int,
        num_classes: int,
        stride: int = 1,
        relu_first: bool = False,
        last_halves: bool = True,
    ) -> None:
        super().__init__()
        self.base = nn.Sequential(
            nn.Conv2d(1, base[0], 3, stride=stride, bias=False),
            norm(base[0]),
            nn.ReLU(inplace=True),
            nn.Conv2d(base[0], base[1], 3, bias=False),
            norm(base[1]),
            nn.ReLU(inplace=True),
        )
        size, channels = (size - 3) // stride + 1 - 2, base[1]
        stages = []
        for index, outputs in enumerate(modules):
            halves = last_halves or index < len(modules) - 1
            stages.append(
                KerasResidualModule(channels, outputs, size, halves=halves, relu_first=relu_first and index > 0)
            )
            size, channels = (size + 1) // 2 if halves else size, outputs
        self.residual = nn.Sequential(*stages)
        self.conv = nn.Conv2d(channels, num_classes, 3, padding=1)
        kaiming(self, last=self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised float32 N×1×size×size faces to float32 N×classes logits."""
        out: Tensor = functional.adaptive_avg_pool2d(self.conv(self.residual(self.base(x))), 1).flatten(1)
        return out


class MiniXceptionKeras(KerasXception):
    """mini_XCEPTION for grey faces of 64×64, as fer2013_mini_XCEPTION.102: 64 → 62 → 60 → 30 → 15 → 8 → 4."""

    def __init__(self, num_classes: int) -> None:
        super().__init__((8, 8), (16, 32, 64, 128), size=64, num_classes=num_classes)


class MiniXceptionKeras48(KerasXception):
    """Its variant for 48×48, as fer2013_mini_XCEPTION.119: 48 → 46 → 44 → 22 → 11 → 6, and 6 again.

    The first convolution has 5 channels, and the last residual module keeps the size.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__((5, 8), (16, 32, 64, 128), size=48, num_classes=num_classes, last_halves=False)


class BigXception(KerasXception):
    """big_XCEPTION for grey faces of 64×64, as fer2013_big_XCEPTION.54: 64 → 31 → 29 → 15 → 8."""

    def __init__(self, num_classes: int) -> None:
        super().__init__((32, 64), (128, 256), size=64, num_classes=num_classes, stride=2, relu_first=True)
