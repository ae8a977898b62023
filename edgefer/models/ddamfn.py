"""ddamfn: a mobile face network of mixed depthwise kernels behind a dual-direction attention head.

4,187,421 parameters with 7 classes, 4,187,936 with 8. Source: Zhang, Zhang, Wang and Song, "A Dual-Direction Attention
Mixed Feature Network for Facial Expression Recognition" (2023). Tensor names are those of the checkpoints that its
authors publish, which hold tensors that no forward pass ever used (:data:`DDAMFN.UNUSED`); they count as parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgefer.models.layers import kaiming

Pair = tuple[int, int]

RESIDUAL_START = 0.2
"""First scale of what a residual unit adds: 31 sums of equals would multiply the variance by 2³¹ before any training.

Near zero, as in Goyal et al., "Accurate, Large Minibatch SGD" (2017), section 5.1; not at it, so that untrained
networks, which are exported to measure speed, have weights other than 0.
"""

ATTENTION_SHARE = 0.1
"""Weight of the attention loss in the loss that is trained."""


class ConvBlock(nn.Module):
    """A convolution without bias, a batch norm and, unless ``linear``, a PReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | Pair = 1,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.prelu = nn.Identity() if linear else nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """N×inputs×H×W to N×outputs×H'×W'."""
        out: Tensor = self.prelu(self.bn(self.conv(x)))
        return out


class MixedDepthwise(nn.Module):
    """Depthwise convolutions of several kernel sizes, each on its own group of channels; nothing after them.

    ``bn`` and ``prelu`` are in the published checkpoints and are not applied there either.
    """

    def __init__(self, groups: Sequence[Pair], stride: int) -> None:
        super().__init__()
        self.channels = [channels for _, channels in groups]
        self.mixed_depthwise_conv = nn.ModuleList(
            nn.Conv2d(channels, channels, kernel, stride=stride, padding=kernel // 2, groups=channels, bias=False)
            for kernel, channels in groups
        )
        self.bn = nn.BatchNorm2d(sum(self.channels))
        self.prelu = nn.PReLU(sum(self.channels))

    def forward(self, x: Tensor) -> Tensor:
        """N×channels×H×W to N×channels×⌈H/stride⌉×⌈W/stride⌉."""
        parts = torch.split(x, self.channels, dim=1)
        return torch.cat([conv(part) for conv, part in zip(self.mixed_depthwise_conv, parts, strict=True)], 1)


class _Attention(nn.Module):
    """What both coordinate attentions share: two strips of a map to one weight per row and one per column.

    Source: Hou, Zhou and Feng, "Coordinate Attention for Efficient Mobile Network Design" (2021).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = max(8, channels // 32)
        self.conv1 = nn.Conv2d(channels, middle, 1)
        self.bn1 = nn.BatchNorm2d(middle)
        self.act = nn.Hardswish()
        self.conv2 = nn.Conv2d(middle, channels, 1)
        self.conv3 = nn.Conv2d(middle, channels, 1)

    def weigh(self, rows: Tensor, columns: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """N×C×H×1 and N×C×1×W strips to weights from 0 to 1 of the same shapes."""
        both = torch.cat((rows, columns.permute(0, 1, 3, 2)), 2)
        both = self.act(self.bn1(self.conv1(both)))
        rows, columns = torch.split(both, [height, width], dim=2)
        return torch.sigmoid(self.conv2(rows)), torch.sigmoid(self.conv3(columns.permute(0, 1, 3, 2)))


class CoordinateAttention(_Attention):
    """Weights from the means of rows and columns, multiplied with the map; ``size`` is its pixels a side."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__(channels)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """N×C×size×size to the same."""
        means = x.mean(3, keepdim=True), x.mean(2, keepdim=True)
        rows, columns = self.weigh(*means, self.size, self.size)
        return x * columns * rows


class HeadAttention(_Attention):
    """An attention map from learnt sums of rows and columns; ``Linear`` is in the checkpoints and never used."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__(channels)
        self.size = size
        self.Linear_h = ConvBlock(channels, channels, (1, size), groups=channels, linear=True)
        self.Linear_w = ConvBlock(channels, channels, (size, 1), groups=channels, linear=True)
        self.Linear = ConvBlock(channels, channels, size, groups=channels, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×size×size to an attention map of the same shape."""
        rows, columns = self.weigh(self.Linear_h(x), self.Linear_w(x), self.size, self.size)
        return columns * rows


class Head(nn.Module):
    """One of the two heads; published checkpoints nest its tensors one level deeper."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.CoordAtt = HeadAttention(channels, size)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×size×size to an attention map of the same shape."""
        out: Tensor = self.CoordAtt(x)
        return out


@dataclass(frozen=True)
class Unit:
    """A mixed unit: ``groups`` of (kernel, channels) after the expansion; ``size`` is what its maps are then."""

    inputs: int
    outputs: int
    groups: tuple[Pair, ...]
    size: int
    stride: int = 1


class MixedUnit(nn.Module):
    """Expand by 1×1, mixed depthwise convolution, coordinate attention, project by 1×1; a residual sum at stride 1."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        expanded = sum(channels for _, channels in unit.groups)
        self.residual = unit.stride == 1
        self.conv = ConvBlock(unit.inputs, expanded)
        self.conv_dw = MixedDepthwise(unit.groups, unit.stride)
        self.CA = CoordinateAttention(expanded, unit.size)
        self.project = ConvBlock(expanded, unit.outputs, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        """N×inputs×H×W to N×outputs×⌈H/stride⌉×⌈W/stride⌉."""
        out: Tensor = self.project(self.CA(self.conv_dw(self.conv(x))))
        return x + out if self.residual else out


class Residuals(nn.Module):
    """Mixed units in a row, under the name ``model`` of published checkpoints."""

    def __init__(self, unit: Unit, count: int) -> None:
        super().__init__()
        self.model = nn.Sequential(*(MixedUnit(unit) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape out as in."""
        out: Tensor = self.model(x)
        return out


def backbone() -> nn.Sequential:
    """The mobile face network: N×3×112×112 to features N×512×7×7."""
    return nn.Sequential(
        ConvBlock(3, 64, 3, stride=2, padding=1),
        ConvBlock(64, 64, 3, padding=1, groups=64),
        MixedUnit(Unit(64, 64, ((3, 64), (5, 32), (7, 32)), size=28, stride=2)),
        Residuals(Unit(64, 64, ((3, 96), (5, 32)), size=28), 9),
        MixedUnit(Unit(64, 128, ((3, 128), (5, 64), (7, 64)), size=14, stride=2)),
        Residuals(Unit(128, 128, ((3, 192), (5, 64)), size=14), 16),
        MixedUnit(Unit(128, 256, ((3, 256), (5, 256), (7, 256), (9, 256)), size=7, stride=2)),
        Residuals(Unit(256, 256, ((3, 172), (5, 170), (7, 170)), size=7), 6),
        ConvBlock(256, 512),
    )


@dataclass(frozen=True)
class TrainingOutputs:
    """What the training loss reads.

    Attributes:
        logits: float32 N×classes.
        features: the backbone's features, float32 N×512×7×7.
        attention: the maps of the two heads, each float32 N×512×7×7 from 0 to 1.
    """

    logits: Tensor
    features: Tensor
    attention: tuple[Tensor, Tensor]


class DDAMFN(nn.Module):
    """Logits, float32 N×classes, from normalised RGB faces, float32 N×3×112×112."""

    UNUSED = (r"features\..*\.conv_dw\.(bn|prelu)\..*", r"cat_head[01]\.CoordAtt\.Linear\..*", r"bn\..*")
    """Patterns of tensor names that are in the published checkpoints and that no forward pass uses."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = backbone()
        self.cat_head0 = Head(512, 7)
        self.cat_head1 = Head(512, 7)
        self.Linear = ConvBlock(512, 512, 7, groups=512, linear=True)
        self.fc = nn.Linear(512, num_classes)
        self.bn = nn.BatchNorm1d(num_classes)
        kaiming(self, last=self.fc)
        for module in self.modules():
            if isinstance(module, MixedUnit) and module.residual:
                nn.init.constant_(module.project.bn.weight, RESIDUAL_START)

    def forward(self, x: Tensor) -> Tensor:
        """112 → 56 → 28 → 14 → 7 pixels a side, the two heads' attention, then one fully connected layer."""
        return self.training_outputs(x).logits

    def with_auxiliary_loss(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and what training adds to their loss: a tenth of :func:`attention_loss`, as its authors do."""
        outputs = self.training_outputs(x)
        return outputs.logits, ATTENTION_SHARE * attention_loss(outputs.attention)

    def training_outputs(self, x: Tensor) -> TrainingOutputs:
        """Logits with the features and attention maps that :func:`attention_loss` reads."""
        features = self.features(x)
        first, second = self.cat_head0(features), self.cat_head1(features)
        attended = self.Linear(features * torch.maximum(first, second))
        return TrainingOutputs(self.fc(attended.flatten(1)), features, (first, second))


def attention_loss(attention: tuple[Tensor, Tensor], epsilon: float = 1e-6) -> Tensor:
    """The loss that keeps the heads apart: 1 / (the mean squared difference of their maps + ε), a number.

    It is pairs of heads over the sum of their differences, with one pair; published training adds a tenth of it to the
    cross-entropy.
    """
    return 1 / (torch.nn.functional.mse_loss(*attention) + epsilon)
