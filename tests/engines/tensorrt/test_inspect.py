"""Asked against got, from what compilers say of their layers."""

import json

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefer.engines.tensorrt.inspect import FOLDED, asked_of, audit, audit_dump, layers_of_json
from edgefer.errors import EdgeferError
from edgefer.manifest import LayerPrecision


def network():
    """Cast → Q/DQ → conv → relu → global average pool → flatten → Q/DQ → gemm: conv and gemm are INT8."""
    constants = {
        "s": np.float32(0.1),
        "z": np.int8(0),
        "w_q": np.ones((8, 1, 3, 3), np.int8),
        "fc_q": np.ones((3, 8), np.int8),
    }
    nodes = [
        helper.make_node("Cast", ["faces"], ["x"], name="Cast_0", to=TensorProto.FLOAT),
        *pair("x"),
        helper.make_node("DequantizeLinear", ["w_q", "s", "z"], ["w"], name="w/DequantizeLinear"),
        helper.make_node("Conv", ["x_dq", "w"], ["conv"], name="Conv_0"),
        helper.make_node("Relu", ["conv"], ["relu"], name="Relu_0"),
        helper.make_node("GlobalAveragePool", ["relu"], ["pool"], name="Pool_0"),
        helper.make_node("Flatten", ["pool"], ["flat"], name="Flatten_0"),
        *pair("flat"),
        helper.make_node("DequantizeLinear", ["fc_q", "s", "z"], ["fc"], name="fc/DequantizeLinear"),
        helper.make_node("Gemm", ["flat_dq", "fc"], ["logits"], name="Gemm_0", transB=1),
    ]
    faces = helper.make_tensor_value_info("faces", TensorProto.UINT8, ["N", 1, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    return helper.make_model(
        helper.make_graph(nodes, "g", [faces], [logits], tensors), opset_imports=[helper.make_opsetid("", 17)]
    )


def pair(tensor):
    return (
        helper.make_node("QuantizeLinear", [tensor, "s", "z"], [f"{tensor}_q"], name=f"{tensor}/QuantizeLinear"),
        helper.make_node(
            "DequantizeLinear", [f"{tensor}_q", "s", "z"], [f"{tensor}_dq"], name=f"{tensor}/DequantizeLinear"
        ),
    )


def line(name, kind, reads, writes, *origins, constants=("Float",)):
    def tensors(types):
        return ", ".join(f"{{ Name: t, Dimensions: [-1,8], Datatype: {t}, Format: (Linear) Row major }}" for t in types)

    metadata = "".join(f"[ONNX Layer: {origin}]" for origin in origins)
    return (
        f"Name: {name}, LayerType: {kind}, Inputs: [ {tensors(reads)}], Constants: [ {tensors(constants)}], "
        f"Outputs: [ {tensors(writes)}], TacticName: t, StreamId: 0, Metadata: {metadata}"
    )


GOOD = [
    "Layers:",
    line("shape", "shape_call", (), ()),
    line("in", "kgen", ("UInt8",), ("Int8",), "Cast_0", "x/QuantizeLinear"),
    line("conv", "correlation", ("Int8",), ("Float",), "Conv_0", "w/DequantizeLinear", constants=("Int8", "Float")),
    line("end", "kgen", ("Float",), ("Float",), "Conv_0", "Relu_0"),
    line("pool", "avgpool", ("Float",), ("Int8",), "Pool_0", "flat/QuantizeLinear"),
    line("fc", "gemm", ("Int8",), ("Float",), "Gemm_0", constants=("Int8",)),
]


def test_what_is_asked_is_read_from_the_graph():
    asked = asked_of(network())
    assert asked == {
        "Cast_0": ("Cast", "fp32"),
        "Conv_0": ("Conv", "int8"),
        "Relu_0": ("Relu", "int8"),
        "Pool_0": ("GlobalAveragePool", "fp32"),
        "Flatten_0": ("Flatten", "fp32"),
        "Gemm_0": ("Gemm", "int8"),
    }
    assert asked_of(network(), "int8+fp16")["Pool_0"] == ("GlobalAveragePool", "fp16")


def test_an_engine_as_asked():
    found = audit_dump(network(), "\n".join(GOOD))
    assert found.differences == found.reformats == found.stray == ()
    assert LayerPrecision("Flatten_0", "Flatten", "fp32", FOLDED) in found.nodes
    assert [(row.kind, row.asked, row.got) for row in found.layers] == [
        ("kgen", "fp32", "fp32"),
        ("correlation", "int8", "int8"),
        ("kgen", "int8", "fp32"),
        ("avgpool", "fp32", "fp32"),
        ("gemm", "int8", "int8"),
    ]
    assert found.layers[1].to_dict()["origins"] == ["Conv_0"]
    assert found.got("int8") == "int8"


def test_a_convolution_that_stayed_float_is_a_difference():
    lines = [text.replace("Datatype: Int8", "Datatype: Half") if "Name: conv" in text else text for text in GOOD]
    found = audit_dump(network(), "\n".join(lines))
    assert found.differences == (LayerPrecision("Conv_0", "Conv", "int8", "fp16"),)
    assert found.got("int8+fp16") == "int8+fp16"  # the gemm is INT8, the convolution FP16


def test_an_engine_without_any_int8_is_called_float():
    found = audit_dump(network(), "\n".join(text.replace("Int8", "Half") for text in GOOD))
    assert [node.layer for node in found.differences] == ["Conv_0", "Gemm_0"]
    assert (found.got("int8+fp16"), found.got("int8")) == ("fp16", "fp32")
    weak = audit_dump(network(), "\n".join(text.replace("Int8", "Float") for text in GOOD))
    assert (weak.got("int8+fp16"), weak.got("fp16"), weak.got("fp32")) == ("fp32", "fp32", "fp32")


def test_int8_where_float_was_asked_is_a_difference_too():
    lines = [text.replace("Datatype: Float", "Datatype: Int8") if "Name: pool" in text else text for text in GOOD]
    assert [n.layer for n in audit_dump(network(), "\n".join(lines)).differences] == ["Pool_0"]


def test_stray_pairs_and_reformats_are_counted():
    more = [
        *GOOD,
        line("q", "kgen", ("Float",), ("Int8",), "x/QuantizeLinear"),
        line("Reformatting CopyNode for Input Tensor 0", "Reformat", ("Float",), ("Half",)),
    ]
    found = audit_dump(network(), "\n".join(more))
    assert found.stray == ("q",)
    assert found.reformats == ("Reformatting CopyNode for Input Tensor 0",)


def test_a_log_without_layers_is_an_error():
    with pytest.raises(EdgeferError, match="did not print its layers") as error:
        audit_dump(network(), "nothing")
    assert "constraints/" in error.value.hint


def inspector(*layers):
    return json.dumps({"Layers": list(layers), "Bindings": ["faces", "logits"]})


def test_the_inspectors_json_is_read_the_same():
    def tensor(kind):
        return {"Name": "t", "Location": "Device", "Dimensions": [1, 8], "Format/Datatype": kind}

    conv = {
        "Name": "Conv_0 + Relu_0",
        "LayerType": "CaskConvolution",
        "Inputs": [tensor("Thirty-two wide channel vectorized row major Int8 format")],
        "Outputs": [tensor("Row major linear FP32")],
        "Weights": {"Type": "Int8", "Count": 72},
        "Metadata": "[ONNX Layer: Conv_0]\u001e[ONNX Layer: Relu_0]",
    }
    bare = {**conv, "Metadata": "", "Inputs": [tensor("Channel major FP16 format where channel % 8 == 0")]}
    reformat = {"Name": "copy", "LayerType": "Reformat", "Inputs": [tensor("UInt8")], "Outputs": [tensor("Half")]}
    layers = layers_of_json(inspector(conv, bare, reformat))
    assert layers[0].reads == layers[0].holds == {"int8"}
    assert layers[0].writes == {"fp32"}
    assert layers[0].origins == layers[1].origins == ("Conv_0", "Relu_0")
    assert layers[1].reads == {"fp16"}
    assert layers[2].reads == {"uint8"}
    found = audit(network(), layers, asked_of(network()))
    assert [n for n in found.nodes if n.layer == "Conv_0"] == [LayerPrecision("Conv_0", "Conv", "int8", "int8")]
    assert found.reformats == ("copy",)


def test_an_inspector_that_tells_names_only_is_an_error():
    with pytest.raises(EdgeferError, match="only the names of its layers") as error:
        layers_of_json(inspector("Conv_0", "Relu_0"))
    assert "edgefer build-engine" in error.value.hint
