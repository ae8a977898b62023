from edgefer.quantize import FLAVOURS, make_plan
from edgefer.quantize.tail import idle_layers

TENSORRT = FLAVOURS["tensorrt"]


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
