"""Files that TensorRT would refuse or build into something else; and the calibration tables that it reads."""

import struct

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.engines.tensorrt.compat import RTX, target_of
from edgefer.engines.tensorrt.inputs import (
    check_model,
    check_sparsity,
    parse_cache,
    sparse_layers,
    to_table,
    with_float_weights,
)
from edgefer.engines.tensorrt.options import Batches, BuilderOptions
from edgefer.errors import EdgeferError

JETPACK6 = target_of("jetpack6")
USUAL = BuilderOptions()
IMPLICIT = BuilderOptions(calibrator="entropy")
ON_DLA = BuilderOptions(Batches(1, 1, 1), dla=1, gpu_fallback=True)


def graph(*, zero=None, fp16=False, opset=17, weights=None, bias=None):
    """faces → Cast → [Q → DQ →] Gemm → logits."""
    kind = np.float16 if fp16 else np.float32
    weights = np.ones((32, 3), kind) if weights is None else weights.astype(kind)
    nodes = [helper.make_node("Cast", ["faces"], ["x"], to=TensorProto.FLOAT16 if fp16 else TensorProto.FLOAT)]
    constants = [numpy_helper.from_array(weights, "w")]
    top = "x"
    if zero is not None:
        constants += [numpy_helper.from_array(kind(0.5), "s"), numpy_helper.from_array(np.asarray(zero), "z")]
        nodes.append(helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"))
        nodes.append(helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dq"], name="dq"))
        top = "dq"
    nodes.append(helper.make_node("Gemm", [top, "w"], ["y"], name="gemm"))
    nodes.append(helper.make_node("Cast", ["y"], ["logits"], to=TensorProto.FLOAT))
    faces = helper.make_tensor_value_info("faces", TensorProto.UINT8, ["N", 32])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])
    return helper.make_model(
        helper.make_graph(nodes, "g", [faces], [logits], constants), opset_imports=[helper.make_opsetid("", opset)]
    )


INT8 = np.int8(0)


@pytest.mark.parametrize(
    ("model", "target", "precision", "options", "said", "hint"),
    [
        (graph(), JETPACK6, "int8", USUAL, "neither Q/DQ nor calibration", "--calib DATA"),
        (graph(zero=np.uint8(128)), JETPACK6, "int8", USUAL, "quantised for a CPU: it has Quant", "float model.onnx"),
        (graph(zero=np.int8(3)), JETPACK6, "int8", USUAL, "'q' with a zero point of int8", "--target tensorrt"),
        (graph(zero=np.uint8(0)), RTX, "int8", USUAL, "a zero point of uint8", "float model.onnx"),
        (graph(zero=INT8), JETPACK6, "fp32", USUAL, "has Q/DQ already, and --fp32 is asked for", "float model.onnx"),
        (graph(zero=INT8), JETPACK6, "int8", IMPLICIT, "has Q/DQ already, and --calibrator", "leave --calibrator out"),
        (graph(opset=21), target_of("jetpack5"), "fp32", USUAL, "opset 21, and TensorRT 8.5.2 (jetpack5)", "opset 17"),
        (graph(), JETPACK6, "fp16", USUAL, "decided by its tensors, which are FP32", "--onnx-only --for jetpack6"),
        (graph(fp16=True), target_of("8.6"), "fp16", USUAL, "decided by the builder", "--onnx-only --for 8.6"),
        (graph(fp16=True), JETPACK6, "fp16", ON_DLA, "10.3.0 (jetpack6) on DLA that is decided by the", "with --dla 1"),
        (graph(), target_of("11.4.1"), "fp16", ON_DLA, "on DLA that is decided by its tensors", "with --dla 1"),
        (graph(fp16=True, zero=INT8, opset=19), JETPACK6, "int8", USUAL, "the file is FP16", "--int8 --fp16"),
    ],
)
def test_files_that_are_refused(model, target, precision, options, said, hint):
    with pytest.raises(EdgeferError) as error:
        check_model(model, target, precision, options)
    assert said in error.value.message
    assert hint in error.value.hint


@pytest.mark.parametrize(
    ("model", "target", "precision", "options"),
    [
        (graph(), JETPACK6, "fp32", USUAL),
        (graph(zero=INT8), JETPACK6, "int8", USUAL),
        (graph(zero=INT8), target_of("8.6"), "int8+fp16", USUAL),
        (graph(fp16=True), JETPACK6, "fp16", USUAL),
        (graph(fp16=True, zero=INT8, opset=19), RTX, "int8+fp16", USUAL),
        (graph(), target_of("8.6"), "fp16", USUAL),
        (graph(), JETPACK6, "int8+fp16", IMPLICIT),
        (graph(), JETPACK6, "fp16", ON_DLA),
        (graph(fp16=True), target_of("11.4.1"), "fp16", ON_DLA),
    ],
)
def test_files_that_fit(model, target, precision, options):
    check_model(model, target, precision, options)


def test_integer_operators_are_for_cpus():
    model = graph()
    model.graph.node[1].op_type = "QLinearMatMul"
    with pytest.raises(EdgeferError, match="QLinearMatMul 'gemm'"):
        check_model(model, JETPACK6, "int8", USUAL)


def pruned(axis_zero_pattern):
    weights = np.random.default_rng(0).normal(size=(32, 3))
    weights[axis_zero_pattern] = 0
    return graph(weights=weights)


def test_weights_that_are_two_of_four():
    model = pruned(np.arange(32) % 4 < 2)
    assert sparse_layers(model) == (["gemm"], [])
    assert check_sparsity(model) == "1 of 1 layers have 2:4 sparse weights"


def test_three_of_four_are_not_sparse():
    model = pruned(np.arange(32) % 4 < 1)
    with pytest.raises(EdgeferError, match="no layer of the model has 2:4 sparse weights: gemm are dense") as error:
        check_sparsity(model)
    assert "prune two of every four" in error.value.hint


def test_half_of_all_weights_in_the_wrong_places_are_not_sparse():
    assert sparse_layers(pruned(np.arange(32) < 16)) == ([], ["gemm"])


def test_sparsity_of_a_convolution_is_counted_along_its_input_channels():
    weights = np.ones((8, 16, 3, 3), np.float32)
    weights[:, 0::4] = weights[:, 3::4] = 0
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16, 8, 8])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph(nodes, "g", [value], [result], [numpy_helper.from_array(weights, "w")]))
    assert sparse_layers(model) == (["conv"], [])
    weights[0, 0, 0, 0] = 1
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    assert sparse_layers(model) == ([], ["conv"])
    assert isinstance(model, onnx.ModelProto)


def test_scales_are_big_endian_bits():
    """1/127 is 0x3c010204 in IEEE 754 single precision."""
    text = to_table({"Conv_0_out": 1 / 127, "Relu_0_out": 1.0}, target_of("8.6.1"), "minmax")
    assert text == "TRT-8601-MinMaxCalibration\nConv_0_out: 3c010204\nRelu_0_out: 3f800000\n"


@pytest.mark.parametrize(
    ("version", "number"), [("jetpack5", "8502"), ("jetpack6.0", "8602"), ("jetpack6", "100300"), ("10.13.3", "101303")]
)
def test_the_version_is_written_as_its_header_does(version, number):
    assert to_table({}, target_of(version), "entropy") == f"TRT-{number}-EntropyCalibration2\n"


def test_there_and_back():
    scales = {"a": 0.5, "b c": 1e-6, "d/e": 123.25}
    number, algorithm, found = parse_cache(to_table(scales, target_of("10.3"), "entropy"), "x")
    assert (number, algorithm) == (100300, "EntropyCalibration2")
    assert found == {name: struct.unpack(">f", struct.pack(">f", value))[0] for name, value in scales.items()}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "t.calib is no calibration table of TensorRT: it is empty"),
        ("hello\n", "it begins with 'hello'"),
        ("TRT-8601-LegacyCalibration\n", "it begins with 'TRT-8601-Legacy"),
        ("TRT-8601-MinMaxCalibration\nConv 3c010204\n", "t.calib, line 2 cannot be read: 'Conv 3c010204'"),
        ("TRT-8601-MinMaxCalibration\nConv: 3c01\n", "line 2 cannot be read"),
        ("TRT-8601-MinMaxCalibration\nConv: zzzzzzzz\n", "line 2 cannot be read"),
        ("TRT-8601-MinMaxCalibration\nConv: 7f800000\n", "line 2 cannot be read"),
        ("TRT-8601-MinMaxCalibration\nConv: bf800000\n", "line 2 cannot be read"),
        ("TRT-new-MinMaxCalibration\nConv: 3c010204\n", "it begins with 'TRT-new"),
        ("TRT-8601-MinMaxCalibration\n", "t.calib has no scale of any tensor"),
    ],
)
def test_damaged_tables(text, said):
    with pytest.raises(EdgeferError) as error:
        parse_cache(text, "t.calib")
    assert said in error.value.message
    assert error.value.hint


def test_names_that_the_format_cannot_hold():
    with pytest.raises(EdgeferError, match="'a:b' cannot stand in a calibration table"):
        to_table({"a:b": 1.0}, target_of("8.6"), "entropy")


def test_weights_before_10_are_float_constants_that_quantise_to_the_same_integers():
    """Of a convolution with a scale for each channel; the answers are equal to the bit."""
    levels = np.random.default_rng(0).integers(-127, 128, (8, 2, 3, 3)).astype(np.int8)
    scales = np.random.default_rng(1).uniform(1e-4, 1e-1, 8).astype(np.float32)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["dq"], axis=0, name="dq"),
        helper.make_node("Conv", ["x", "dq"], ["y"], name="conv"),
    ]
    constants = {"w": levels, "s": scales, "z": np.zeros(8, np.int8)}
    graph = helper.make_graph(
        *(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 3, 3])]),
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 1, 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    changed = with_float_weights(model)
    assert [node.op_type for node in changed.graph.node] == ["QuantizeLinear", "DequantizeLinear", "Conv"]
    assert {t.name: t.data_type for t in changed.graph.initializer}["w_float"] == TensorProto.FLOAT
    values = np.random.default_rng(2).standard_normal((1, 2, 3, 3)).astype(np.float32)
    one, two = (OnnxRuntimeSession(m.SerializeToString()).run({"x": values})["y"] for m in (model, changed))
    np.testing.assert_array_equal(one, two)
