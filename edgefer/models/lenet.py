"""LeNet for 48×48 faces, 205,451 parameters, and a deeper one, lenet7, 247,323.

Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition" (1998).
"""

from __future__ import annotations

from torch import Tensor, nn

from edgefer.models.initialise import kaiming, xavier


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

    ReLU in place of LeNet's sigmoids, whose slope of at most 1/4 a layer leaves the first of seven without a gradient.
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
