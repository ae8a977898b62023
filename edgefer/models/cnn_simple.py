"""cnn_simple: two convolutions without padding and three wide fully connected layers, 55,735,175 parameters."""

from __future__ import annotations

from torch import Tensor, nn

from edgefer.models.initialise import kaiming


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
