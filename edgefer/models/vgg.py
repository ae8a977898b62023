"""Networks of 3×3 convolutions in blocks that end in a max-pool, then three fully connected layers.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (2014).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgefer.models import create
from edgefer.models.layers import kaiming


def blocks(plan: Sequence[tuple[int, int]], channels: int, norms: bool = False) -> nn.Sequential:
    """The convolutional part; ``plan`` has ``(convolutions, output channels)`` a block."""
    layers: list[nn.Module] = []
    for convolutions, outputs in plan:
        for _ in range(convolutions):
            layers.append(nn.Conv2d(channels, outputs, 3, padding=1))
            if norms:
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.ReLU(inplace=True))
            channels = outputs
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def head(inputs: int, width: int, last: nn.Linear) -> nn.Sequential:
    """Two fully connected layers with dropout 0.5, then the layer that gives the logits."""
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(width, width),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        last,
    )


class Vgg(nn.Module):
    """Blocks of convolutions and a head.

    Args:
        plan: ``(convolutions, output channels)`` a block; every block halves the sides.
        channels: number of channels of the faces.
        area: pixels that are left of a map after the last block.
        width: width of the two fully connected layers before the last.
        num_classes: number of logits.
        norms: a batch norm after each convolution.
    """

    def __init__(
        self,
        plan: Sequence[tuple[int, int]],
        *,
        channels: int,
        area: int,
        width: int,
        num_classes: int,
        norms: bool = False,
    ) -> None:
        super().__init__()
        self.features = blocks(plan, channels, norms)
        last = nn.Linear(width, num_classes)
        self.classifier = head(plan[-1][1] * area, width, last)
        kaiming(self, last)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised float32 N×C×H×W faces to float32 N×classes logits."""
        out: Tensor = self.classifier(self.features(x).flatten(1))
        return out


VGG9 = ((1, 64), (1, 128), (2, 256), (2, 512))


class Vgg9(Vgg):
    """Six convolutions for grey faces of 48×48 (48 → 24 → 12 → 6 → 3 pixels a side); 18,149,639 parameters."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(VGG9, channels=1, area=9, width=2048, num_classes=num_classes)


class Vgg9Bn(Vgg):
    """:class:`Vgg9` with a batch norm after each convolution; 18,153,095 parameters."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(VGG9, channels=1, area=9, width=2048, num_classes=num_classes, norms=True)


class VggSmall(Vgg):
    """Eight narrow convolutions for grey faces of 48×48 (48 → 24 → 12 → 6 pixels a side); 36,159,399 parameters."""

    def __init__(self, num_classes: int) -> None:
        plan = ((2, 32), (3, 64), (3, 128))
        super().__init__(plan, channels=1, area=36, width=4096, num_classes=num_classes)


class Vgg11(Vgg):
    """The ImageNet network for RGB faces of 224×224 (down to 7×7), with torchvision's tensor names.

    torchvision has an adaptive pool to 7×7 before the head, which does nothing at this size and is left out.
    128,795,015 parameters with 7 classes. Fully connected layers start at N(0, 0.01), as there.
    """

    def __init__(self, num_classes: int) -> None:
        plan = ((1, 64), (1, 128), (2, 256), (2, 512), (2, 512))
        super().__init__(plan, channels=3, area=49, width=4096, num_classes=num_classes)
        for layer in self.classifier:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)


WITH_NORMS = {"vgg9": "vgg9_bn"}
"""Network → its twin with a batch norm after each convolution."""


def without_norms(network: nn.Module, name: str, num_classes: int) -> nn.Module:
    """The network ``name``, in evaluation mode, with the logits of ``network``, its twin with batch norms in that mode.

    Args:
        network: the twin; its fully connected layers become the new network's own.
        name: one of :data:`WITH_NORMS`.
        num_classes: number of logits.
    """
    plain = create(name, num_classes)
    assert isinstance(network, Vgg)
    assert isinstance(plain, Vgg)
    layers: list[nn.Module] = []
    for layer in network.features:
        if isinstance(layer, nn.BatchNorm2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)  # type: ignore[type-var]
        else:
            layers.append(layer)
    plain.features, plain.classifier = nn.Sequential(*layers), network.classifier
    return plain.eval()
