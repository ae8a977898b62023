"""cliquenet: three blocks whose layers feed each other in both directions, 1,527,199 parameters.

Source: Yang, Zhong, Shen and Lin, "Convolutional Neural Networks with Alternately Updated Clique" (2018).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgefer.models.layers import kaiming

LAYERS = 5
WIDTH = 36
KEPT = 0.95


class CliqueBlock(nn.Module):
    """Five layers, each connected with each: made once in a row, then remade from each other.

    Stage 1 makes layer *i* from the block's input and layers 1…*i*−1; stage 2 remakes layers 1…5 in order, each from
    the newest values of the four others. The kernel from one layer to another is the same in both stages; batch norms
    are each stage's own. ``between[i][k]`` is the kernel to layer *i* from the *k*-th of the others.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.entry = nn.ParameterList(_kernel(inputs, inputs + WIDTH * i) for i in range(LAYERS))
        self.between = nn.ModuleList(
            nn.ParameterList(_kernel(WIDTH, WIDTH * (LAYERS - 1)) for _ in range(LAYERS - 1)) for _ in range(LAYERS)
        )
        self.norms1 = nn.ModuleList(nn.BatchNorm2d(WIDTH) for _ in range(LAYERS))
        self.norms2 = nn.ModuleList(nn.BatchNorm2d(WIDTH) for _ in range(LAYERS))
        self.dropout = nn.Dropout(1 - KEPT)

    def kernel(self, source: int, target: int) -> Tensor:
        """The kernel from layer ``source`` to layer ``target``, float32 36×36×3×3, of both stages."""
        kernels: list[Tensor] = list(self.between[target])  # type: ignore[call-overload]  # ModuleList's item type
        return kernels[source if source < target else source - 1]

    def forward(self, x: Tensor) -> Tensor:
        """N×inputs×H×W to the five remade layers, N×180×H×W."""
        layers: list[Tensor] = []
        for i in range(LAYERS):
            kernels = [self.entry[i], *(self.kernel(j, i) for j in range(i))]
            layers.append(self._layer([x, *layers], kernels, self.norms1[i]))
        for i in range(LAYERS):
            others = [j for j in range(LAYERS) if j != i]
            kernels = [self.kernel(j, i) for j in others]
            layers[i] = self._layer([layers[j] for j in others], kernels, self.norms2[i])
        return torch.cat(layers, 1)

    def _layer(self, sources: list[Tensor], kernels: list[Tensor], norm: nn.Module) -> Tensor:
        # One convolution of all sources together equals the sum of one of each, and is faster.
        summed = functional.conv2d(torch.cat(sources, 1), torch.cat(kernels, 1), padding=1)
        out: Tensor = self.dropout(functional.relu(norm(summed)))
        return out


class Transition(nn.Module):
    """A 1×1 convolution, channel attention and an average-pool between two blocks."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.squeeze = nn.Linear(channels, channels // 2)
        self.excite = nn.Linear(channels // 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        """N×channels×H×W to N×channels×H/2×W/2."""
        x = functional.relu(self.norm(self.conv(x)))
        mean = functional.adaptive_avg_pool2d(x, 1).flatten(1)
        attention = torch.sigmoid(self.excite(functional.relu(self.squeeze(mean))))
        return functional.avg_pool2d(x * attention[:, :, None, None], 2)


class CliqueNet(nn.Module):
    """Logits, float32 N×classes, from normalised grey faces, float32 N×1×48×48."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 64, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        made = LAYERS * WIDTH
        inputs = (64, made, made)
        self.blocks = nn.ModuleList(CliqueBlock(channels) for channels in inputs)
        self.transitions = nn.ModuleList(Transition(made) for _ in inputs[1:])
        self.fc = nn.Linear(sum(inputs) + made * len(inputs), num_classes)
        kaiming(self, last=self.fc)

    def forward(self, x: Tensor) -> Tensor:
        """48 → 24 → 12 in the stem; blocks of 12, 6 and 3 pixels a side, whose inputs and outputs are all pooled."""
        x = self.stem(x)
        pooled = []
        for index, block in enumerate(self.blocks):
            if index:
                x = self.transitions[index - 1](x)
            made = block(x)
            pooled.append(functional.adaptive_avg_pool2d(torch.cat((x, made), 1), 1).flatten(1))
            x = made
        out: Tensor = self.fc(torch.cat(pooled, 1))
        return out


def _kernel(channels: int, summed: int) -> nn.Parameter:
    """A 3×3 kernel of one of the sources that are summed, ``summed`` channels in all: He's initialisation."""
    return nn.Parameter(torch.randn(WIDTH, channels, 3, 3) * math.sqrt(2 / (9 * summed)))
