"""facecnn: three convolutions with batch norms and randomised leaky ReLUs, 42,582,919 parameters.

Source of the activation: Xu, Wang, Chen and Li, "Empirical Evaluation of Rectified Activations in Convolutional
Network" (2015); in evaluation it is a leaky ReLU of slope (1/8 + 1/3) / 2.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgefer.models.initialise import kaiming

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
