"""resnet11: the stem and four stages of a small residual network, for grey faces; 11,176,839 parameters.

Source: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (2015). Other than there, every
convolution has a bias and the projections have no batch norm.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from edgefer.models.initialise import kaiming


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with batch norms; a strided 1×1 projection on the other branch where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(outputs)
        changes = stride != 1 or inputs != outputs
        self.projection = nn.Conv2d(inputs, outputs, 1, stride=stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """N×inputs×H×W to N×outputs×⌈H/stride⌉×⌈W/stride⌉."""
        out = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(out)) + self.projection(x))


class ResNet11(nn.Module):
    """Logits, float32 N×classes, from normalised grey faces, float32 N×1×48×48."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 64, 7, stride=2, padding=3),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        stages, channels = [], 64
        for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            stages.append(nn.Sequential(ResidualBlock(channels, outputs, stride), ResidualBlock(outputs, outputs, 1)))
            channels = outputs
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(channels, num_classes)
        kaiming(self, last=self.fc)

    def forward(self, x: Tensor) -> Tensor:
        """48 → 24 → 12 in the stem, 12, 6, 3 and 2 pixels a side in the stages, then a global mean."""
        out: Tensor = self.fc(functional.adaptive_avg_pool2d(self.stages(self.stem(x)), 1).flatten(1))
        return out
