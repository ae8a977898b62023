"""Residual networks: resnet11 and resnet14 for grey 48×48 faces, resnet18 for RGB faces of 224×224.

Source: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (2015). Other than there, every
convolution of resnet11 has a bias and its projections have no batch norm; resnet14 keeps the faces' resolution in its
stem and is built to teach smaller networks; resnet18 has torchvision's tensor names.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from edgefer.models.layers import kaiming


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


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with batch norms; a strided 1×1 convolution with its own on the other branch if needed."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """N×inputs×H×W to N×outputs×⌈H/stride⌉×⌈W/stride⌉."""
        out = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(out)) + self.downsample(x))


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1))


class ResNet14(nn.Module):
    """Logits, float32 N×classes, from normalised grey faces, float32 N×1×48×48."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True))
        self.stages = nn.Sequential(_stage(32, 64, 2), _stage(64, 128, 2), _stage(128, 256, 2))
        self.fc = nn.Linear(256, num_classes)
        kaiming(self, last=self.fc)

    def forward(self, x: Tensor) -> Tensor:
        """48 pixels a side in the stem, 24, 12 and 6 in the stages, then a global mean."""
        out: Tensor = self.fc(functional.adaptive_avg_pool2d(self.stages(self.stem(x)), 1).flatten(1))
        return out


class ResNet18(nn.Module):
    """Logits, float32 N×classes, from normalised RGB faces, float32 N×3×224×224."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, 1)
        self.layer2 = _stage(64, 128, 2)
        self.layer3 = _stage(128, 256, 2)
        self.layer4 = _stage(256, 512, 2)
        self.fc = nn.Linear(512, num_classes)
        kaiming(self, last=self.fc)

    def forward(self, x: Tensor) -> Tensor:
        """224 → 112 → 56 in the stem, 56, 28, 14 and 7 pixels a side in the stages, then a global mean."""
        x = self.maxpool(functional.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        out: Tensor = self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return out
