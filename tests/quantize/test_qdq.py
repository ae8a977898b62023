from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from edgefer.errors import EdgeferError
from edgefer.quantize.observation import observe
from edgefer.quantize.plan import make_plan
from edgefer.quantize.qdq import quantise, quantise_bias, quantise_weights, weight_scales
from edgefer.quantize.ranges import METHODS, Chosen, Ranges
from edgefer.quantize.scheme import SCHEMES, Scheme

X86 = SCHEMES["x86-vnni"]


@pytest.fixture(scope="module")
def ranges(network, faces, run):
    return observe(network, run, [faces])


def quantised(model, scheme, ranges, **options):
    return quantise(model, make_plan(model, scheme), ranges, **options)


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("method", METHODS)
def test_a_network_with_every_rule_keeps_30_db(network, faces, run, ranges, snr, scheme, method):
    wanted = run(network.SerializeToString())(faces)["logits"]
    result = quantised(network, scheme, ranges, method=method)
    got = run(result.model.SerializeToString())(faces)["logits"]
    assert snr(wanted, got) > (30 if scheme.weight_bits == 8 else 27)
    assert [layer for layer in result.layers if layer.asked != layer.got] == []


def test_onnxruntime_runs_all_of_it_in_integer(network, run, ranges, tmp_path):
    path = str(tmp_path / "optimised.onnx")
    run(quantised(network, X86, ranges).model.SerializeToString(), path)
    kinds = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert kinds["QLinearConv"] == 5, kinds
    assert kinds["QLinearAdd"] == kinds["QLinearConcat"] == kinds["QLinearLeakyRelu"] == 1
    assert kinds["QLinearAveragePool"] == kinds["QLinearGlobalAveragePool"] == 1
    assert kinds["QGemm"] == 2
    assert kinds["MaxPool"] + kinds["NhwcMaxPool"] == 1
    assert not {"Conv", "FusedConv", "Gemm", "FusedGemm", "Relu", "Clip", "Add", "DequantizeLinear"} & set(kinds)
    assert kinds["QuantizeLinear"] == 1  # the normalised face


def test_one_convolution_against_integer_arithmetic_by_hand(builder, faces, run):
    b = builder(seed=3)
    x = b.node("Relu", [b.conv(b.top, 1, 4, 1)])
    model = b.model(b.node("ReduceMean", [x], axes=[2, 3], keepdims=0))
    ranges = observe(model, run, [faces])
    result = quantised(model, X86, ranges, method="minmax").model
    values = constants(result)
    pixels = faces.astype(np.float32).transpose(0, 3, 1, 2) * np.float32(1 / 255)
    levels = np.clip(np.rint(pixels / values["mul0_out_scale"]), 0, 255).astype(np.int64)
    sums = levels * values["conv0_w_quantized"].astype(np.int64).reshape(1, 4, 1, 1)
    sums += values["conv0_b_quantized"].reshape(1, 4, 1, 1)
    real = sums * (values["mul0_out_scale"] * values["conv0_w_scale"]).reshape(1, 4, 1, 1)
    output = np.clip(np.rint(real / values["relu0_out_scale"]), 0, 255) * values["relu0_out_scale"]
    assert values["conv0_w_quantized"].dtype == np.int8
    assert values["conv0_b_quantized"].dtype == np.int32
    assert np.abs(values["conv0_w_quantized"]).max(axis=(1, 2, 3)).tolist() == [127] * 4
    got = run(result.SerializeToString())(faces)["logits"]
    np.testing.assert_allclose(got, output.mean(axis=(2, 3)), atol=float(values["relu0_out_scale"]) / 50)


def test_tensorrt_gets_what_its_parser_takes(network, ranges):
    model = quantised(network, SCHEMES["tensorrt"], ranges).model
    values = constants(model)
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = values[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
    assert not any(value.dtype in (np.int32, np.uint8) for value in values.values())
    assert values["conv0_b"].dtype == np.float32
    readers = {name: node.op_type for node in model.graph.node for name in node.input}
    assert readers["faces"] == "Cast"


def test_the_file_keeps_what_it_was(network, ranges):
    before = network.SerializeToString()
    model = quantised(network, X86, ranges).model
    assert network.SerializeToString() == before
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["edgefer.contract"] == "{}"
    assert properties["edgefer.precision"] == "int8"
    assert '"scheme": "x86-vnni"' in properties["edgefer.quantisation"]
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    assert inferred.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert "conv0_w" not in constants(model)  # the float weights are gone


def test_the_same_input_gives_the_same_bytes(network, ranges):
    kept = Ranges(ranges.model, ranges.faces, {name: Chosen.of(seen) for name, seen in ranges.tensors.items()})
    first, second = (quantised(network, X86, given).model for given in (ranges, kept))
    assert first.SerializeToString() == second.SerializeToString()


def test_seven_bit_weights_stay_in_seven_bits(network, ranges):
    values = constants(quantised(network, SCHEMES["x86"], ranges).model)
    assert max(np.abs(v).max() for v in values.values() if v.dtype == np.int8) == 63


def test_moved_values_have_the_scale_that_they_came_with(network, ranges):
    model = quantised(network, X86, ranges).model
    scale = {node.input[0]: node.input[1:] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert scale["relu0_out"] == scale["maxpool0_out"]
    assert scale["globalaveragepool0_out"] == scale["flatten0_out"]
    assert scale["relu2_out"] != scale["concat0_out"]  # it holds negative values too


def test_a_float_layer_in_between_gets_real_values(network, faces, run, ranges, snr):
    plan = make_plan(network, X86, keep_float=["conv1"])
    result = quantise(network, plan, ranges)
    got = {layer.layer: layer.got for layer in result.layers}
    assert got["conv1"] == got["relu1"] == "fp32"
    assert got["conv2"] == "int8"
    wanted = run(network.SerializeToString())(faces)["logits"]
    assert snr(wanted, run(result.model.SerializeToString())(faces)["logits"]) > 30


def test_silent_channels_and_constant_tensors_are_survived(builder, faces, run):
    b = builder()
    x = b.node("Relu", [b.conv(b.top, 1, 4)])
    weights, bias = (numpy_helper.to_array(tensor).copy() for tensor in b.constants[-2:])
    weights[0] = 0  # a channel without weights
    weights[1], bias[1] = weights[1] * 1e-20, 5.0  # one whose bias would not fit int32 at its weights' scale
    weights[2], bias[2] = -np.abs(weights[2]), -1.0  # one that never fires
    b.constants[-2:] = [numpy_helper.from_array(weights, "conv0_w"), numpy_helper.from_array(bias, "conv0_b")]
    dead = b.node("Relu", [b.conv(x, 4, 4)])
    b.constants[-2:] = [
        numpy_helper.from_array(np.zeros((4, 4, 3, 3), np.float32), "conv1_w"),
        numpy_helper.from_array(np.full(4, -1, np.float32), "conv1_b"),
    ]
    x = b.node("Add", [x, dead])
    model = b.model(b.gemm(b.node("Flatten", [b.node("GlobalAveragePool", [x])]), 4, 3))
    ranges = observe(model, run, [faces])
    wanted = run(model.SerializeToString())(faces)["logits"]
    for scheme in SCHEMES.values():
        got = run(quantised(model, scheme, ranges).model.SerializeToString())(faces)["logits"]
        np.testing.assert_allclose(got, wanted, err_msg=scheme.name, atol=0.03 * np.abs(wanted).max())


def test_shared_weights_are_stored_once(builder, faces, run):
    b = builder()
    x = b.node("Relu", [b.conv(b.top, 1, 4, bias=False)])
    y = b.node("Relu", [b.conv(x, 4, 4, bias=False)])
    y = b.node("Relu", [b.node("Conv", [y, "conv1_w"], pads=[1] * 4, kernel_shape=[3, 3])])
    model = b.model(b.gemm(b.node("Flatten", [b.node("GlobalAveragePool", [y])]), 4, 3))
    values = constants(quantised(model, X86, observe(model, run, [faces])).model)
    assert [name for name in values if name.startswith("conv1_w")] == [
        "conv1_w_quantized", "conv1_w_scale", "conv1_w_zero_point",
    ]  # fmt: skip


def test_weights_and_biases_by_hand():
    weights = np.array([[1.0, -2.0], [0.0, 0.0], [0.5, 0.25]], np.float32)
    scales = weight_scales(weights, 0, 127, None, 1.0)
    np.testing.assert_allclose(scales, [2 / 127, 1.0, 0.5 / 127], rtol=1e-6)
    assert quantise_weights(weights, scales, 0, 127).tolist() == [[64, -127], [0, 0], [127, 64]]
    assert quantise_weights(weights.T, scales, 1, 127).T.tolist() == [[64, -127], [0, 0], [127, 64]]
    raised = weight_scales(weights * 1e-12, 0, 127, np.array([1.0, 1.0, 0.0], np.float32), 0.01)
    assert quantise_bias(np.array([1, 1, 0], np.float32), raised * np.float32(0.01)).max() <= 2**30 + 128


def test_the_opset_is_raised_only_where_the_scheme_asks(network, ranges, builder):
    newer = Scheme("newer", "int8", symmetric=True, placement="inputs", bias="float", opset=19)
    assert quantised(network, newer, ranges).model.opset_import[0].version == 19
    b = builder()
    old = b.model(b.gemm(b.node("Flatten", [b.top]), 256, 3), opset=12)
    empty = Ranges("", 1, {})
    with pytest.raises(EdgeferError, match="opset 12; per-channel quantisation needs 13") as caught:
        quantised(old, X86, empty, same_model=False)
    assert "opset 17" in caught.value.hint


def test_mismatches_are_refused(network, ranges):
    plan = make_plan(network, X86)
    other = Ranges("f" * 64, 3, dict(ranges.tensors))
    with pytest.raises(EdgeferError, match="taken from another model") as caught:
        quantise(network, plan, other)
    assert caught.value.hint == "calibrate this model"
    assert quantise(network, plan, other, same_model=False).model.graph.node
    fewer = Ranges(ranges.model, 3, {k: v for k, v in ranges.tensors.items() if k != "clip0_out"})
    with pytest.raises(EdgeferError, match="no tensor 'clip0_out'"):
        quantise(network, plan, fewer)
    with pytest.raises(EdgeferError, match="already quantised"):
        quantise(quantise(network, plan, ranges).model, plan, ranges)
