"""Depthwise convolutions of several kernel sizes side by side, as one."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from edgefer.graph.rewriting.editing import Editing, attributes

MOST_GROWTH = 2.5
"""Merged where the one kernel multiplies at most so many times as often as the several did."""


def merge_depthwise(model: onnx.ModelProto) -> int:
    """Write Split → depthwise convolutions → Concat as one depthwise convolution; returns how many times.

    Smaller kernels get a border of zeros. Odd kernels with half of them as padding, one stride, no dilation, and the
    parts in their order; anything else is left alone, and so is what would multiply :data:`MOST_GROWTH` times as often.
    """
    editing = Editing(model)
    return sum(_merge(editing, output) for output in editing.made_by("Concat"))


def _merge(editing: Editing, output: str) -> bool:
    concat = editing.maker(output)
    branches = _branches(editing, concat) if concat is not None else None
    if concat is None or branches is None:
        return False
    split, convs = branches
    kernels = [kernel for kernel in (_kernel(editing, conv) for conv in convs) if kernel is not None]
    biases = [editing.constant(conv.input[2]) for conv in convs if len(conv.input) > 2]
    strides = {tuple(attributes(conv).get("strides", (1, 1))) for conv in convs}
    if len(kernels) != len(convs) or len(biases) not in (0, len(convs)) or len(strides) != 1:
        return False
    side = max(kernel.shape[2] for kernel in kernels)
    merged = np.concatenate([_bordered(kernel, side) for kernel in kernels])
    if merged.size > MOST_GROWTH * sum(kernel.size for kernel in kernels):
        return False
    names = [editing.add_constant(merged, output)]
    if biases:
        names.append(editing.add_constant(np.concatenate([bias for bias in biases if bias is not None]), output))
    conv = helper.make_node(
        "Conv",
        [split.input[0], *names],
        [output],
        group=len(merged),
        kernel_shape=[side, side],
        pads=[side // 2] * 4,
        strides=list(strides.pop()),
    )
    editing.replace([split, *convs, concat], [conv])
    return True


def _branches(editing: Editing, concat: onnx.NodeProto) -> tuple[onnx.NodeProto, list[onnx.NodeProto]] | None:
    """The Split along channels and the convolutions between it and ``concat``, in order; None where it is otherwise."""
    made = [editing.maker(name) for name in concat.input]
    convs = [conv for conv in made if conv is not None and conv.op_type == "Conv"]
    if len(convs) != len(made) or attributes(concat).get("axis") != 1:
        return None
    split = editing.maker(convs[0].input[0])
    if split is None or split.op_type != "Split" or attributes(split).get("axis", 0) != 1:
        return None
    inner = [*split.output, *concat.input]
    if [conv.input[0] for conv in convs] != list(split.output) or not all(map(editing.only_read_once, inner)):
        return None
    return split, convs


def _kernel(editing: Editing, conv: onnx.NodeProto) -> NDArray[Any] | None:
    """The weights of a depthwise convolution of an odd square kernel that keeps the size, but for stride; or None."""
    weights = editing.constant(conv.input[1])
    if weights is None or weights.ndim != 4 or weights.shape[1] != 1:
        return None
    channels, _, height, width = weights.shape
    settings = attributes(conv)
    plain = (
        height == width
        and height % 2 == 1
        and settings.get("group", 1) == channels
        and list(settings.get("pads", [0] * 4)) == [height // 2] * 4
        and all(step == 1 for step in settings.get("dilations", ()))
        and settings.get("auto_pad", b"NOTSET") == b"NOTSET"
        and (len(conv.input) < 3 or editing.constant(conv.input[2]) is not None)
    )
    return weights if plain else None


def _bordered(kernel: NDArray[Any], side: int) -> NDArray[Any]:
    border = (side - kernel.shape[2]) // 2
    return np.pad(kernel, ((0, 0), (0, 0), (border, border), (border, border)))
