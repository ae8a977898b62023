"""FP16 typing: what becomes float16, what stays, and that the network is still the same one."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.errors import EdgeferError
from edgefer.graph.fp16 import to_fp16

RANDOM = np.random.default_rng(0)


def network(*, opset=17, weight=None, slope=0.25):
    """Normalisation, a convolution, PRelu, a residual Add, a pool, Flatten, Gemm."""
    weight = RANDOM.normal(0, 0.3, (4, 1, 3, 3)).astype(np.float32) if weight is None else weight
    constants = {
        "scale": np.full((1, 1, 1, 1), 1 / 255, np.float32),
        "shift": np.full((1, 1, 1, 1), -0.5, np.float32),
        "w": weight,
        "b": np.linspace(-1, 1, 4, dtype=np.float32),
        "slope": np.full((4, 1, 1), slope, np.float32),
        "fc": RANDOM.normal(0, 0.3, (4, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["faces"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["normal"]),
        helper.make_node("Conv", ["normal", "w", "b"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("PRelu", ["conv", "slope"], ["prelu"]),
        helper.make_node("Add", ["prelu", "normal"], ["sum"]),
        helper.make_node("GlobalAveragePool", ["sum"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("Gemm", ["flat", "fc"], ["logits"]),
    ]
    faces = helper.make_tensor_value_info("faces", TensorProto.UINT8, ["N", 8, 8, 1])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [faces], [logits], tensors),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def types(model):
    inferred = onnx.shape_inference.infer_shapes(model).graph
    return {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.output)}


def test_everything_behind_the_normalisation_is_fp16():
    model = network()
    before = model.SerializeToString()
    fp16 = to_fp16(model)
    assert model.SerializeToString() == before
    found = types(fp16)
    assert {name for name, kind in found.items() if kind == TensorProto.FLOAT} == {
        *("float", "planes", "scaled", "normal", "logits"),
    }
    stored = {tensor.name: tensor.data_type for tensor in fp16.graph.initializer}
    assert stored.pop("scale") == stored.pop("shift") == TensorProto.FLOAT
    assert set(stored.values()) == {TensorProto.FLOAT16}
    assert sum(node.op_type == "Cast" for node in fp16.graph.node) == 3  # from uint8, to FP16, to the logits
    assert fp16.graph.output[0].name == "logits"


def test_it_answers_alike():
    faces = RANDOM.integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    model = network()
    wanted, got = (
        OnnxRuntimeSession(m.SerializeToString(), optimise=False).run({"faces": faces})["logits"]
        for m in (model, to_fp16(model))
    )
    assert got.dtype == np.float32
    difference = np.abs(wanted - got).max() / np.abs(wanted).max()
    assert 0 < difference < 2e-3


def test_a_weight_beyond_float16_is_refused():
    weight = np.zeros((4, 1, 3, 3), np.float32)
    weight[0, 0, 0, 0] = 1e5
    with pytest.raises(EdgeferError, match=r"the constant 'w' holds 1e\+05, and FP16 ends at 65504") as error:
        to_fp16(network(weight=weight))
    assert "--fp32" in error.value.hint


def test_scales_in_fp16_need_opset_19():
    model = network()
    for tensor in (np.float32(0.5), np.int8(0)):
        name = "s" if tensor.dtype == np.float32 else "z"
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(tensor), name))
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    conv.input[0] = "dq"
    at = list(model.graph.node).index(conv)
    model.graph.node.insert(at, helper.make_node("QuantizeLinear", ["normal", "s", "z"], ["q"]))
    model.graph.node.insert(at + 1, helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dq"]))
    with pytest.raises(EdgeferError, match="Q/DQ in opset 17") as error:
        to_fp16(model)
    assert "strongly typed" in error.value.hint
    model.opset_import[0].version = 19
    model.ir_version = 9
    fp16 = to_fp16(model)
    assert types(fp16)["dq"] == TensorProto.FLOAT16
    assert next(t for t in fp16.graph.initializer if t.name == "s_fp16").data_type == TensorProto.FLOAT16


def test_comparisons_read_constants_of_the_same_type():
    model = network()
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "half"))
    at = next(i for i, node in enumerate(model.graph.node) if node.op_type == "GlobalAveragePool")
    model.graph.node[at].input[0] = "chosen"
    model.graph.node.insert(at, helper.make_node("Greater", ["sum", "half"], ["above"]))
    model.graph.node.insert(at + 1, helper.make_node("Where", ["above", "sum", "prelu"], ["chosen"]))
    fp16 = to_fp16(model)
    assert types(fp16)["above"] == TensorProto.BOOL
    faces = RANDOM.integers(0, 256, (2, 8, 8, 1), dtype=np.uint8)
    assert np.isfinite(
        OnnxRuntimeSession(fp16.SerializeToString(), optimise=False).run({"faces": faces})["logits"]
    ).all()
