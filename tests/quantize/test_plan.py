import numpy as np
import onnx
import pytest

from edgefer.errors import EdgeferError
from edgefer.quantize.plan import idle_layers, make_plan, plan_to_the_end
from edgefer.quantize.scheme import SCHEMES, Scheme, named_scheme


def asked(plan) -> dict[str, str]:
    return {layer.layer: layer.asked for layer in plan.layers}


def reasons(plan) -> dict[str, str]:
    return {layer.layer: layer.reason for layer in plan.layers}


def test_everything_with_an_integer_kernel_becomes_int8(network):
    plan = make_plan(network, SCHEMES["x86-vnni"])
    assert [name for name, precision in asked(plan).items() if precision == "fp32"] == ["cast0", "transpose0", "mul0"]
    assert reasons(plan)["cast0"] == "no INT8 rule for Cast"
    assert reasons(plan)["transpose0"] == "what it reads comes from float Cast 'cast0'"
    assert reasons(plan)["relu2"] == "fused into Add 'add0'"
    assert [site.tensor for site in plan.sites] == [
        "mul0_out", "relu0_out", "maxpool0_out", "relu1_out", "conv2_out", "relu2_out", "conv3_out", "leakyrelu0_out",
        "concat0_out", "averagepool0_out", "clip0_out", "globalaveragepool0_out", "flatten0_out", "relu3_out",
    ]  # fmt: skip


def test_layers_that_only_move_values_share_one_scale(network):
    groups = [group for group in make_plan(network, SCHEMES["x86-vnni"]).shared if len(group) > 1]
    assert groups == [("relu0_out", "maxpool0_out"), ("globalaveragepool0_out", "flatten0_out")]


@pytest.mark.parametrize("second", ["Relu", "none"])
def test_a_concatenation_shares_a_scale_unless_that_would_unfuse_a_relu(builder, second):
    b = builder()
    left = b.node("Relu", [b.conv(b.top, 1, 4)])
    right = b.conv(b.top, 1, 4)
    right = b.node("Relu", [right]) if second == "Relu" else right
    x = b.node("GlobalAveragePool", [b.node("Concat", [left, right], axis=1)])
    model = b.model(b.gemm(b.node("Flatten", [x]), 8, 3))
    groups = [group for group in make_plan(model, SCHEMES["x86-vnni"]).shared if "concat0_out" in group]
    together = [(left, right, "concat0_out")]
    assert groups == (together if second == "Relu" else [("concat0_out",)])


def test_the_inputs_placement_quantises_what_is_read(network):
    plan = make_plan(network, SCHEMES["tensorrt"])
    sites = {site.tensor: site.readers for site in plan.sites}
    assert "conv2_out" not in sites  # it is added up unrounded; the other side of the sum is INT8
    assert ("add0_out", 1) in sites["maxpool0_out"]
    assert reasons(plan)["leakyrelu0"] == "LeakyRelu is fused in float into the layer before it"
    assert asked(plan)["concat0"] == "fp32"


def test_layers_can_be_kept_in_float(network):
    plan = make_plan(network, SCHEMES["x86-vnni"], keep_float=["conv1", "gemm1"])
    assert asked(plan)["conv1"] == asked(plan)["relu1"] == asked(plan)["gemm1"] == "fp32"
    assert reasons(plan)["conv1"] == "kept in float as asked"
    assert asked(plan)["conv2"] == "int8"
    with pytest.raises(EdgeferError, match="no layer 'conv_1' to keep in float") as caught:
        make_plan(network, SCHEMES["x86-vnni"], keep_float=["conv_1"])
    assert "conv1" in caught.value.hint


def test_what_cannot_be_integer_says_why(builder):
    b = builder()
    x = b.node("Sigmoid", [b.conv(b.top, 1, 4)])
    x = b.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    gate = b.node("Add", [x, b.constant("one", np.float32(1))])
    x = b.node("Flatten", [b.node("GlobalAveragePool", [gate])])
    product = b.node("MatMul", [x, b.node("Transpose", [x], perm=[1, 0])])
    odd = b.node("Gemm", [product, b.constant("w", np.ones((7, 7), np.float32))], alpha=2.0)
    model = b.model(b.conv(b.node("Reshape", [odd, b.constant("shape", np.array([0, 1, 1, 7]))]), 1, 2, 1), outputs=4)
    said = reasons(make_plan(model, SCHEMES["x86-vnni"]))
    assert said["sigmoid0"] == "no INT8 rule for Sigmoid"
    assert said["maxpool0"] == "what it reads comes from float Sigmoid 'sigmoid0'"
    assert said["add0"] == "Add with a constant"
    assert said["matmul0"] == "it does not multiply an activation by constant weights"
    assert said["gemm0"] == "Gemm with alpha, beta or transA"
    assert said["conv1"] == "its result is the network's output, which stays float"
    assert said["conv0"] == "has an integer kernel"


def test_a_convolution_on_the_raw_input_stays_float():
    weights = onnx.numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w")
    nodes = [
        onnx.helper.make_node("Identity", ["x"], ["same"], name="identity0"),
        onnx.helper.make_node("Conv", ["same", "w"], ["c"], name="conv0"),
        onnx.helper.make_node("ReduceMean", ["c"], ["logits"], name="mean0", axes=[2, 3]),
    ]
    ends = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 1, 4, 4]) for n in ("x", "logits")]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], [weights]))
    plan = make_plan(model, SCHEMES["x86-vnni"])
    assert "a Cast to float must stand between" in reasons(plan)["conv0"]
    assert plan.sites == ()


def test_a_quantised_model_is_refused(network):
    again = onnx.ModelProto()
    again.CopyFrom(network)
    again.graph.node.append(onnx.helper.make_node("QuantizeLinear", ["relu0_out", "scale"], ["q"], name="q0"))
    with pytest.raises(EdgeferError, match="already quantised: it has QuantizeLinear 'q0'") as caught:
        make_plan(again, SCHEMES["x86-vnni"])
    assert "float model" in caught.value.hint


def test_scales_and_zero_points():
    asymmetric, symmetric = SCHEMES["x86-vnni"], SCHEMES["tensorrt"]
    scale, zero = asymmetric.scale_and_zero_point(0.0, 5.1)
    assert scale == np.float32(5.1 / 255)
    assert (zero, zero.dtype) == (0, np.uint8)
    scale, zero = asymmetric.scale_and_zero_point(-1.0, 3.0)
    assert zero == 64  # 63.75 rounded
    scale, zero = SCHEMES["arm-signed"].scale_and_zero_point(0.0, 5.1)
    assert (zero, zero.dtype) == (-128, np.int8)
    scale, zero = symmetric.scale_and_zero_point(-1.0, 3.0)
    assert (scale, zero, zero.dtype) == (np.float32(3 / 127), 0, np.int8)
    assert asymmetric.scale_and_zero_point(2.0, 4.0)[0] == np.float32(4 / 255)  # widened to hold zero
    for scheme in SCHEMES.values():
        for value in (0.0, 1e-45):
            assert scheme.scale_and_zero_point(0.0, value)[0] == 1.0


def test_schemes_are_checked():
    with pytest.raises(EdgeferError, match="no scheme 'tpu'") as caught:
        named_scheme("tpu")
    assert "x86-vnni, x86, arm" in caught.value.hint
    assert named_scheme("x86").weight_limit == 63
    with pytest.raises(EdgeferError, match="needs int8 activations, not uint8"):
        Scheme("odd", "uint8", symmetric=True, placement="all", bias="float")


TENSORRT, X86 = SCHEMES["tensorrt"], SCHEMES["x86-vnni"]


def asked_of(model, **options):
    return {layer.layer: layer.asked for layer in make_plan(model, TENSORRT, **options).layers}


def test_a_mean_at_the_end_does_not_round_the_logits(builder):
    b = builder()
    x = b.conv(b.node("Relu", [b.conv(b.top, 1, 8)]), 8, 7)
    model = b.model(b.node("Flatten", [b.node("GlobalAveragePool", [x])]))
    assert asked_of(model)["globalaveragepool0"] == asked_of(model)["flatten0"] == "int8"
    idle = idle_layers(model, TENSORRT)
    assert idle == ("globalaveragepool0", "flatten0")
    plan = make_plan(model, TENSORRT, keep_float=idle)
    assert [site.tensor for site in plan.sites] == ["mul0_out", "relu0_out"]
    assert {layer.layer: layer.asked for layer in plan.layers}["conv1"] == "int8"


def test_a_mean_before_a_fully_connected_layer_stays(builder):
    b = builder()
    x = b.node("Flatten", [b.node("GlobalAveragePool", [b.conv(b.top, 1, 8)])])
    model = b.model(b.gemm(x, 8, 7))
    assert idle_layers(model, TENSORRT) == ()


def test_one_reader_in_int8_is_enough(builder):
    b = builder()
    pool = b.node("MaxPool", [b.conv(b.top, 1, 8)], kernel_shape=[2, 2], strides=[2, 2])
    left, right = b.conv(pool, 8, 8), b.node("Sigmoid", [pool])
    model = b.model(b.node("ReduceMean", [b.node("Mul", [left, right])], axes=[2, 3], keepdims=0))
    assert asked_of(model)["maxpool0"] == "int8"
    assert idle_layers(model, TENSORRT) == ()


def test_where_integer_kernels_write_integers_the_last_convolution_stays_float(builder):
    b = builder()
    first = b.node("Sigmoid", [b.conv(b.top, 1, 8)])  # float, and an INT8 layer comes behind it
    x = b.conv(b.node("Relu", [b.conv(first, 8, 8)]), 8, 7)
    model = b.model(b.node("Flatten", [b.node("GlobalAveragePool", [x])]))
    assert idle_layers(model, X86) == ("conv2", "globalaveragepool0")
    plan = plan_to_the_end(model, X86)
    found = {layer.layer: (layer.asked, layer.reason) for layer in plan.layers}
    assert found["conv2"] == ("fp32", "no INT8 layer reads what it gives")
    assert found["conv0"][0] == found["conv1"][0] == "int8"
    assert plan.sites[-1].tensor == "relu0_out"


@pytest.mark.parametrize("scheme", [TENSORRT, X86])
def test_a_fully_connected_layer_writes_float_and_stays(builder, scheme):
    b = builder()
    x = b.node("Flatten", [b.node("GlobalAveragePool", [b.conv(b.top, 1, 8)])])
    plan = plan_to_the_end(b.model(b.gemm(x, 8, 7)), scheme)
    assert {layer.asked for layer in plan.layers if layer.op in ("Conv", "Gemm")} == {"int8"}
