"""resnet18: the ImageNet network for RGB faces of 224×224, with torchvision's tensor names; 11,180,103 parameters.

Source: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (2015).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from edgefer.models.initialise import kaiming


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
