"""Convolutions, pools and fully connected layers: lenet, the deeper lenet7, cnn_simple and facecnn.

Sources: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition" (1998); for
facecnn's activation Xu, Wang, Chen and Li, "Empirical Evaluation of Rectified Activations in Convolutional Network"
(2015): in evaluation it is a leaky ReLU of slope (1/8 + 1/3) / 2.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgefer.models.layers import kaiming, xavier


class LeNet(nn.Module):
    """Logits, float32 N×classes, from normalised grey faces, float32 N×1×48×48."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2),
            nn.Sigmoid(),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.Sigmoid(),
            nn.AvgPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(16 * 10 * 10, 120),
            nn.Sigmoid(),
            nn.Linear(120, 84),
            nn.Sigmoid(),
            nn.Linear(84, num_classes),
        )
        xavier(self)

    def forward(self, x: Tensor) -> Tensor:
        """48 → 24 → 20 → 10 pixels a side, then three fully connected layers."""
        out: Tensor = self.classifier(self.features(x).flatten(1))
        return out


class LeNet7(nn.Module):
    """LeNet with a third convolution and a fourth fully connected layer: seven layers with weights.

    ReLU replaces LeNet's sigmoids, whose slope of at most 1/4 leaves the first of seven layers without a gradient.
    Logits, float32 N×classes, from normalised grey faces, float32 N×1×48×48.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(2),
            nn.Conv2d(16, 32, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(2),
        )
        last = nn.Linear(84, num_classes)
        self.classifier = nn.Sequential(
            nn.Linear(32 * 5 * 5, 240),
            nn.ReLU(inplace=True),
            nn.Linear(240, 120),
            nn.ReLU(inplace=True),
            nn.Linear(120, 84),
            nn.ReLU(inplace=True),
            last,
        )
        kaiming(self, last)

    def forward(self, x: Tensor) -> Tensor:
        """48 → 24 → 20 → 10 → 5 pixels a side, then four fully connected layers."""
        out: Tensor = self.classifier(self.features(x).flatten(1))
        return out


class CnnSimple(nn.Module):
    """Logits, float32 N×classes, from normalised grey faces, float32 N×1×48×48."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 64, 3),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 256, 3),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3),
        )
        last = nn.Linear(1024, num_classes)
        self.classifier = nn.Sequential(
            nn.Linear(256 * 7 * 7, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, 1024),
            nn.ReLU(inplace=True),
            last,
        )
        kaiming(self, last)

    def forward(self, x: Tensor) -> Tensor:
        """48 → 46 → 23 → 21 → 7 pixels a side, then three fully connected layers."""
        out: Tensor = self.classifier(self.features(x).flatten(1))
        return out


CONVOLUTION_STD = 0.04


def _stage(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.RReLU(inplace=True),
        nn.MaxPool2d(2),
    ]


class FaceCnn(nn.Module):
    """Logits, float32 N×classes, from normalised grey faces, float32 N×1×48×48."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*_stage(1, 64), *_stage(64, 128), *_stage(128, 256))
        last = nn.Linear(256, num_classes)
        self.classifier = nn.Sequential(
            nn.Dropout(0.2),
            nn.Linear(256 * 6 * 6, 4096),
            nn.RReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(4096, 1024),
            nn.RReLU(inplace=True),
            nn.Linear(1024, 256),
            nn.RReLU(inplace=True),
            last,
        )
        kaiming(self, last)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=CONVOLUTION_STD)

    def forward(self, x: Tensor) -> Tensor:
        """48 → 24 → 12 → 6 pixels a side, then four fully connected layers."""
        out: Tensor = self.classifier(self.features(x).flatten(1))
        return out
