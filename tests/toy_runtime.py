"""A toy runtime: ONNX's own reference evaluator, as a module that a row of the table of runtimes names."""

from collections import Counter

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from edgefer.engines.session import TensorSpec
from edgefer.runtimes import Runtime

OPENED = Counter()
"""Precision → how often a session was opened for it."""


class ToySession:
    name = "toy"
    version = onnx.__version__

    def __init__(self, model):
        self._model = onnx.load_model_from_string(model if isinstance(model, bytes) else model.read_bytes())
        self._model.opset_import[0].version = max(19, self._model.opset_import[0].version)  # it has Q/DQ from 19 on
        self._evaluator = ReferenceEvaluator(self._model)
        self.inputs, self.outputs = (
            tuple(map(_spec, values)) for values in (self._model.graph.input, self._model.graph.output)
        )

    def run(self, feeds):
        values = self._evaluator.run(None, dict(feeds))
        return {spec.name: np.asarray(value) for spec, value in zip(self.outputs, values, strict=True)}

    def close(self):
        self._evaluator = None


def _spec(value):
    tensor = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
    return TensorSpec(value.name, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, shape)


def open_model(model, threads, precision):
    OPENED[precision] += 1
    return ToySession(model)


def schemes(instructions):
    return ("x86-vnni", "arm-signed")


ROW = Runtime(
    name="toy",
    title="Toy Runtime",
    package="onnx.reference",
    distributions=("onnx",),
    extra="cpu",
    precisions={"fp32": (), "int8": ()},
    opener="tests.toy_runtime:open_model",
    schemes="tests.toy_runtime:schemes",
    check="edgefer.engines.load:check_cpu_engine",
)
