"""Preprocessing that a foreign graph does itself: every path from its input to a real layer."""

from __future__ import annotations

from collections.abc import Collection

import onnx

_SCALING = ("Sub", "Div", "Mul", "Add", "BatchNormalization", "Pow", "Clip", "Min", "Max")
"""Change the values of pixels, where everything else that they read is constant."""

_MOVING = (
    *("Identity", "Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile"),
    *("Gather", "GatherND", "GatherElements", "Slice", "Split", "Concat", "Pad", "CenterCropPad"),
    *("Resize", "Upsample", "SpaceToDepth", "DepthToSpace", "ReverseSequence"),
)
"""Say where pixels stand, and how many there are; what they give are pixels still."""


def leading_scaling(model: onnx.ModelProto, entry: str) -> list[str]:
    """The nodes that shift, scale or clip a graph's input by constants before its first layer with weights or pool.

    Every reader of the input is followed, through whatever cuts, moves, resizes or joins pixels; constants may have any
    size.

    Args:
        model: in canonical form: nodes in the order in which they can run, constants as initialisers.
        entry: the name of the input.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    pixels = {entry}
    found: list[str] = []
    for node in model.graph.node:
        if not pixels & set(node.input):
            continue
        if node.op_type in _SCALING and _reads_only(node, pixels | constants):
            if node.op_type == "Clip" or not _reads_only(node, pixels):
                found.append(f"{node.op_type} '{node.name}'")
        elif node.op_type not in _MOVING:
            continue
        pixels.update(name for name in node.output if name)
    return found


def _reads_only(node: onnx.NodeProto, known: Collection[str]) -> bool:
    return all(name in known for name in node.input if name)
