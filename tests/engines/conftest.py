"""A tiny ONNX classifier built by hand, and the manifest of an engine made of it."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefer.contract import Contract, Normalisation
from edgefer.engines.classifier import Classifier, make_golden
from edgefer.engines.cpu import instruction_set
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.graph.onnx_file import serialise, stamp
from edgefer.manifest import Manifest, Precision, write_engine

CONTRACT = Contract(("a", "b", "c"), 4, 4, 1, Normalisation(), "tiny")
WEIGHT = np.random.default_rng(3).normal(size=(16, 3)).astype(np.float32)


def tiny(weight=WEIGHT, precision="fp32", contract=CONTRACT, batch="N"):
    """logits = flatten(faces) @ weight, with a contract inside unless it is None."""
    nodes = [
        helper.make_node("Cast", ["faces"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    faces = helper.make_tensor_value_info("faces", TensorProto.UINT8, [batch, 4, 4, 1])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3])
    graph = helper.make_graph(nodes, "tiny", [faces], [logits], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if contract is not None:
        stamp(model, contract, precision)
    return serialise(model)


def classify(content: bytes, precision="fp32", name="tiny") -> Classifier:
    return Classifier(OnnxRuntimeSession(content), CONTRACT, precision=precision, size_bytes=len(content), name=name)


def write(path, *, content=None, precision="fp32", **changes):
    """Write an engine with a manifest as `build-engine` does; ``changes`` replace values of the manifest."""
    content = tiny(precision=precision) if content is None else content
    with classify(content, precision) as classifier:
        values = {
            "model_sha256": "ab" * 32,
            "weights_sha256": "ef" * 32,
            "target": "cpu",
            "runtime": "onnxruntime",
            "runtime_version": classifier.runtime_version,
            "instruction_set": instruction_set(),
            "contract": CONTRACT,
            "precision": Precision(precision, precision),
            "calibration": None,
            "golden": make_golden(classifier),
        }
    return write_engine(path, content, Manifest(**{**values, **changes}))


@pytest.fixture
def faces():
    return np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
