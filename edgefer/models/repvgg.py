"""repvgg_small: plain 3×3 convolutions and ReLUs at inference, trained with branches that are folded afterwards.

Source: Ding et al., "RepVGG: Making VGG-style ConvNets Great Again" (2021, https://arxiv.org/abs/2101.03697). Widths
and depth are chosen here, for grey faces of 48×48: no depthwise convolution, nothing but what runs well in INT8.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgefer.models.layers import kaiming

SMALL = ((16, 1), (32, 2), (32, 1), (32, 1), *((64, 2), (64, 1), (64, 1), (64, 1)), (160, 2), (160, 1), (160, 1))
"""Output channels and stride of each block: 48 pixels a side, then 24, 12 and 6."""


class BranchedConv(nn.Module):
    """The ReLU of a sum: a 3×3 and a 1×1 convolution and, where the shape stays, the input, each with a batch norm."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv3 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.bn0 = nn.BatchNorm2d(outputs) if stride == 1 and inputs == outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """N×inputs×H×W to N×outputs×⌈H/stride⌉×⌈W/stride⌉."""
        out = self.bn3(self.conv3(x)) + self.bn1(self.conv1(x))
        if self.bn0 is not None:
            out = out + self.bn0(x)
        return functional.relu(out)

    @torch.no_grad()
    def folded(self) -> nn.Sequential:
        """One 3×3 convolution with a bias, and a ReLU: the same answers as the branches give in evaluation mode."""
        point = functional.pad(self.conv1.weight.double(), (1, 1, 1, 1))
        parts = [_scaled(self.conv3.weight.double(), self.bn3), _scaled(point, self.bn1)]
        if self.bn0 is not None:
            same = torch.zeros_like(parts[0][0])
            same[range(len(same)), range(len(same)), 1, 1] = 1.0
            parts.append(_scaled(same, self.bn0))
        conv = copy.deepcopy(self.conv3)
        conv.weight = nn.Parameter(torch.stack([kernel for kernel, _ in parts]).sum(0).to(self.conv3.weight))
        conv.bias = nn.Parameter(torch.stack([bias for _, bias in parts]).sum(0).to(self.conv3.weight))
        return nn.Sequential(conv, nn.ReLU(inplace=True))


def _scaled(kernel: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The kernel and bias, float64, of a convolution without a bias followed by a batch norm in evaluation mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return kernel * scale[:, None, None, None], norm.bias.double() - norm.running_mean.double() * scale


class RepVgg(nn.Module):
    """Logits, float32 N×classes, from normalised grey faces, float32 N×1×48×48: :data:`SMALL`, then a global mean."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        channels, blocks = 1, []
        for outputs, stride in SMALL:
            blocks.append(BranchedConv(channels, outputs, stride))
            channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(channels, num_classes)
        kaiming(self, last=self.fc)

    def forward(self, x: Tensor) -> Tensor:
        """48 pixels a side in the first block, 6 in the last."""
        out: Tensor = self.fc(self.dropout(functional.adaptive_avg_pool2d(self.blocks(x), 1).flatten(1)))
        return out


def inference_form(network: nn.Module) -> nn.Module:
    """The form of a network that is exported and timed: a copy with its branches folded, or the network if it has none.

    The copy is in evaluation mode, and cannot be trained as the branches can.
    """
    if not isinstance(network, RepVgg):
        return network
    plain = copy.deepcopy(network)
    plain.blocks = nn.Sequential(
        *(block.folded() if isinstance(block, BranchedConv) else block for block in network.blocks)
    )
    return plain.eval()
