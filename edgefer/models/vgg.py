"""Networks of 3×3 convolutions in blocks that end in a max-pool, then three fully connected layers.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (2014).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from edgefer.models.initialise import kaiming


def blocks(plan: Sequence[tuple[int, int]], channels: int) -> nn.Sequential:
    """The convolutional part; ``plan`` has ``(convolutions, output channels)`` a block."""
    layers: list[nn.Module] = []
    for convolutions, outputs in plan:
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            channels = outputs
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def head(inputs: int, width: int) -> list[nn.Module]:
    """Two fully connected layers with dropout 0.5; the layer that gives the logits comes after them."""
    return [
        nn.Linear(inputs, width),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(width, width),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
    ]


class Vgg9(nn.Module):
    """Logits, float32 N×classes, from normalised grey faces, float32 N×1×48×48; 18,149,639 parameters."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = blocks(((1, 64), (1, 128), (2, 256), (2, 512)), channels=1)
        last = nn.Linear(2048, num_classes)
        self.classifier = nn.Sequential(*head(512 * 3 * 3, 2048), last)
        kaiming(self, last)

    def forward(self, x: Tensor) -> Tensor:
        """48 → 24 → 12 → 6 → 3 pixels a side, then three fully connected layers."""
        out: Tensor = self.classifier(self.features(x).flatten(1))
        return out
