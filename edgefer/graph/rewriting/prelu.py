"""PReLU in operators that engines fuse into the layer before."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from edgefer.graph.rewriting.editing import Editing


def split_prelu(model: onnx.ModelProto) -> int:
    """Write each PRelu with constant slopes ``a`` in simpler operators; returns how many.

    ``max(x, a·x)`` where every slope is at most 1, ``a·x + (1 − a)·relu(x)`` where one is above. A PRelu kernel is
    slow in ONNX Runtime and stands alone in OpenVINO, where it cannot run in bfloat16 with the layer before it.
    """
    editing = Editing(model)
    return sum(_split(editing, output) for output in editing.made_by("PRelu"))


def _split(editing: Editing, output: str) -> bool:
    node = editing.maker(output)
    slope = editing.constant(node.input[1]) if node is not None else None
    if node is None or slope is None or not np.isfinite(slope).all():
        return False
    x = node.input[0]
    scaled = editing.fresh(f"{output}_scaled")
    nodes = [helper.make_node("Mul", [x, node.input[1]], [scaled])]
    if bool((slope <= 1).all()):
        nodes.append(helper.make_node("Max", [x, scaled], [output]))
    else:
        positive, rest = editing.fresh(f"{output}_positive"), editing.fresh(f"{output}_rest")
        share = editing.add_constant(1 - slope.astype(np.float32), output)
        nodes.append(helper.make_node("Relu", [x], [positive]))
        nodes.append(helper.make_node("Mul", [positive, share], [rest]))
        nodes.append(helper.make_node("Add", [scaled, rest], [output]))
    editing.replace([node], nodes)
    return True
