"""mini_xception: four residual modules of separable convolutions, 58,047 parameters.

Source: Arriaga, Valdenegro-Toro and Plöger, "Real-time Convolutional Neural Networks for Emotion and Gender
Classification" (2017). Tensor names are those of the PyTorch checkpoint that is commonly published.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from edgefer.models.layers import Downsample, kaiming


class SeparableConv(nn.Module):
    """A depthwise 3×3 convolution, then a 1×1; both with a bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depth_conv = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs)
        self.point_conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """N×inputs×H×W to N×outputs×H×W."""
        out: Tensor = self.point_conv(self.depth_conv(x))
        return out


class ResidualModule(nn.Module):
    """Two separable convolutions and a max-pool beside a strided 1×1 convolution; no activation after the sum."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.left = nn.Sequential(
            SeparableConv(inputs, outputs),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            SeparableConv(outputs, outputs),
            nn.BatchNorm2d(outputs),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.right = nn.Sequential(Downsample(inputs, outputs, bias=True), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """N×inputs×H×W to N×outputs×⌈H/2⌉×⌈W/2⌉."""
        out: Tensor = self.left(x) + self.right(x)
        return out


class MiniXception(nn.Module):
    """Logits, float32 N×classes, from normalised grey faces, float32 N×1×48×48."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.base = nn.Sequential(
            nn.Conv2d(1, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
        )
        self.module1 = ResidualModule(8, 16)
        self.module2 = ResidualModule(16, 32)
        self.module3 = ResidualModule(32, 64)
        self.module4 = ResidualModule(64, 128)
        self.conv = nn.Conv2d(128, num_classes, 3, padding=1)
        kaiming(self, last=self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """The class scores are the means of the last convolution's maps."""
        x = self.module4(self.module3(self.module2(self.module1(self.base(x)))))
        out: Tensor = functional.adaptive_avg_pool2d(self.conv(x), 1).flatten(1)
        return out
