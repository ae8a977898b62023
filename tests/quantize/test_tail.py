import pytest

from edgefer.quantize import FLAVOURS, make_plan
from edgefer.quantize.tail import idle_layers, plan_to_the_end

TENSORRT, X86 = FLAVOURS["tensorrt"], FLAVOURS["x86-vnni"]


def asked(model, **options):
    return {layer.layer: layer.asked for layer in make_plan(model, TENSORRT, **options).layers}


def test_a_mean_at_the_end_does_not_round_the_logits(builder):
    b = builder()
    x = b.conv(b.node("Relu", [b.conv(b.top, 1, 8)]), 8, 7)
    model = b.model(b.node("Flatten", [b.node("GlobalAveragePool", [x])]))
    assert asked(model)["globalaveragepool0"] == asked(model)["flatten0"] == "int8"
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
    assert asked(model)["maxpool0"] == "int8"
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


@pytest.mark.parametrize("flavour", [TENSORRT, X86])
def test_a_fully_connected_layer_writes_float_and_stays(builder, flavour):
    b = builder()
    x = b.node("Flatten", [b.node("GlobalAveragePool", [b.conv(b.top, 1, 8)])])
    plan = plan_to_the_end(b.model(b.gemm(x, 8, 7)), flavour)
    assert {layer.asked for layer in plan.layers if layer.op in ("Conv", "Gemm")} == {"int8"}
