"""What passes need to change a graph: who reads a tensor, constants, and new nodes in the place of old ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


class Editing:
    """A graph under change. Nodes are replaced in place; constants that nobody reads go when it is canonicalised."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self._constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self._outputs = {value.name for value in self.graph.output}
        self._readers = Counter(name for node in self.graph.node for name in node.input)
        self._maker = {name: node for node in self.graph.node for name in node.output}
        self._taken = {name for node in self.graph.node for name in (*node.input, *node.output)}

    def made_by(self, op: str) -> list[str]:
        """The first outputs of an operator's nodes, as they are now."""
        return [node.output[0] for node in self.graph.node if node.op_type == op]

    def maker(self, name: str) -> onnx.NodeProto | None:
        """The node that makes tensor ``name``; None for inputs and constants."""
        return self._maker.get(name)

    def only_read_once(self, name: str) -> bool:
        """Whether one node reads ``name``, once, and it is no output of the graph."""
        return self._readers[name] == 1 and name not in self._outputs

    def constant(self, name: str) -> NDArray[Any] | None:
        """The value of a constant, or None."""
        return numpy_helper.to_array(self._constants[name]) if name in self._constants else None

    def add_constant(self, value: NDArray[np.float32], beside: str) -> str:
        """A new float32 constant, called after the tensor it stands ``beside``; returns its name."""
        name = self.fresh(f"{beside}_constant")
        tensor = numpy_helper.from_array(np.ascontiguousarray(value, dtype=np.float32), name)
        self.graph.initializer.append(tensor)
        self._constants[name] = tensor
        return name

    def fresh(self, wanted: str) -> str:
        """A tensor name like ``wanted`` that is not taken yet."""
        name, count = wanted, 0
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name

    def replace(self, old: Sequence[onnx.NodeProto], new: Sequence[onnx.NodeProto]) -> None:
        """Put ``new`` nodes where the last of ``old`` stands, and take all of ``old`` out."""
        gone = {id(node) for node in old}
        kept: list[onnx.NodeProto] = []
        for node in self.graph.node:
            if id(node) == id(old[-1]):
                kept.extend(new)
            elif id(node) not in gone:
                kept.append(node)
        copies = onnx.GraphProto()
        copies.node.extend(kept)
        del self.graph.node[:]
        self.graph.node.extend(copies.node)
        self._readers = Counter(name for node in self.graph.node for name in node.input)
        self._maker = {name: node for node in self.graph.node for name in node.output}


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of ``node`` by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
