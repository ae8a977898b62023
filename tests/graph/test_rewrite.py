"""Each pass on graphs that have what it looks for, and on graphs that only look alike."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import edgefer.graph.rewrite as passes
from edgefer.contract import Contract, Normalisation
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.errors import EdgeferError
from edgefer.graph.onnx_file import serialise
from edgefer.graph.parity import measure_parity
from edgefer.graph.rewrite import PASSES, rewrite

RNG = np.random.default_rng(0)
CONTRACT = Contract(("a", "b", "c"), 8, 8, 1, Normalisation(1 / 255), "tiny")


def constant(name, value):
    return numpy_helper.from_array(np.asarray(value, np.float32), name)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs.split(), output.split(), **attributes)


def network(middle, constants, channels=8):
    """``middle`` makes ``y`` from ``x`` (N×channels×8×8); both stand between a convolution and a pooled Gemm."""
    faces = helper.make_tensor_value_info("faces", onnx.TensorProto.UINT8, ["N", 8, 8, 1])
    logits = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", 3])
    nodes = [
        node("Cast", "faces", "float", to=onnx.TensorProto.FLOAT),
        node("Transpose", "float", "planes", perm=[0, 3, 1, 2]),
        node("Mul", "planes scale", "scaled"),
        node("Conv", "scaled first", "x", kernel_shape=[1, 1]),
        *middle,
        node("GlobalAveragePool", "y", "pooled"),
        node("Flatten", "pooled", "flat"),
        node("Gemm", "flat last", "logits", transB=1),
    ]
    values = [constant("scale", 1 / 255), constant("first", normal(channels, 1, 1, 1)), *constants]
    values.append(constant("last", normal(3, channels)))
    graph = helper.make_graph(nodes, "g", [faces], [logits], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def ops(model):
    return [n.op_type for n in model.graph.node]


def rewritten(model, name):
    """``model`` after one pass alone, which must answer alike."""
    result = rewrite(model, CONTRACT, skip=set(PASSES) - {name})
    before, after = (OnnxRuntimeSession(serialise(m), optimise=False) for m in (model, result.model))
    assert measure_parity(before, after, CONTRACT).relative <= 1e-4
    onnx.checker.check_model(result.model, full_check=True)
    return result


def norm(width):
    names = ("gamma", "beta", "mean", "variance")
    values = (normal(width), normal(width), normal(width), RNG.uniform(0.1, 2, width))
    return [constant(name, value) for name, value in zip(names, values, strict=True)]


NORM = "BatchNormalization"


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("group", [1, 8])
def test_a_batch_norm_becomes_part_of_the_convolution(bias, group):
    inputs = "x w" + (" b" if bias else "")
    middle = [
        node("Conv", inputs, "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=group),
        node(NORM, "c gamma beta mean variance", "y", epsilon=1e-3),
    ]
    constants = [constant("w", normal(8, 8 // group, 3, 3)), constant("b", normal(8)), *norm(8)]
    model = network(middle, constants if bias else [c for c in constants if c.name != "b"])
    result = rewritten(model, "fold-batchnorm")
    assert result.changes == {"fold-batchnorm": 1}
    assert NORM not in ops(result.model)
    assert ops(result.model).count("Conv") == 2


@pytest.mark.parametrize("trans", [0, 1])
def test_a_batch_norm_becomes_part_of_the_fully_connected_layer(trans):
    middle = [
        node("GlobalAveragePool", "x", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f w b", "g", transB=trans),
        node(NORM, "g gamma beta mean variance", "n"),
        node("Unsqueeze", "n axes", "y"),
    ]
    weights = constant("w", normal(8, 8))
    axes = numpy_helper.from_array(np.array([2, 3]), "axes")
    result = rewritten(network(middle, [weights, constant("b", normal(8)), axes, *norm(8)]), "fold-batchnorm")
    assert result.changes == {"fold-batchnorm": 1}


@pytest.mark.parametrize(
    "middle",
    [
        [  # somebody else reads the convolution's result as well
            node("Conv", "x w", "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            node(NORM, "c gamma beta mean variance", "n"),
            node("Add", "c n", "y"),
        ],
        [  # something stands between
            node("Conv", "x w", "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            node("Relu", "c", "r"),
            node(NORM, "r gamma beta mean variance", "y"),
        ],
    ],
    ids=["two-readers", "relu-between"],
)
def test_batch_norms_that_cannot_be_folded_stay(middle):
    model = network(middle, [constant("w", normal(8, 8, 3, 3)), *norm(8)])
    result = rewritten(model, "fold-batchnorm")
    assert result.changes == {}
    assert result.model is model


@pytest.mark.parametrize(("steepest", "written"), [(1.0, ["Mul", "Max"]), (1.5, ["Mul", "Relu", "Mul", "Add"])])
def test_prelu_in_simpler_operators(steepest, written):
    slopes = np.linspace(-0.5, steepest, 8).reshape(8, 1, 1)
    model = network([node("PRelu", "x slope", "y")], [constant("slope", slopes)])
    result = rewritten(model, "split-prelu")
    assert result.changes == {"split-prelu": 1}
    found = [op for op in ops(result.model) if op in ("PRelu", "Mul", "Max", "Relu", "Add")][1:]  # one scales pixels
    assert sorted(found) == sorted(written)


def test_a_slope_that_is_computed_stays():
    middle = [node("Abs", "slope", "computed"), node("PRelu", "x computed", "y")]
    assert rewritten(network(middle, [constant("slope", normal(8, 1, 1))]), "split-prelu").changes == {}


def mixed(kernels=(3, 5), sizes=(6, 2), stride=1, bias=False, order=None, pads=None):
    middle = [node("Split", "x sizes", " ".join(f"s{i}" for i in range(len(sizes))), axis=1)]
    constants = [numpy_helper.from_array(np.array(sizes), "sizes")]
    for i, (kernel, size) in enumerate(zip(kernels, sizes, strict=True)):
        inputs = f"s{i} w{i}" + (f" b{i}" if bias else "")
        pad = kernel // 2 if pads is None else pads
        settings = {"kernel_shape": [kernel] * 2, "pads": [pad] * 4, "strides": [stride] * 2, "group": size}
        middle.append(node("Conv", inputs, f"c{i}", **settings))
        constants.append(constant(f"w{i}", normal(size, 1, kernel, kernel)))
        if bias:
            constants.append(constant(f"b{i}", normal(size)))
    middle.append(node("Concat", " ".join(f"c{i}" for i in order or range(len(sizes))), "y", axis=1))
    return network(middle, constants)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("kernels", "sizes"), [((3, 5), (6, 2)), ((3, 5, 7), (2, 2, 4))])
def test_mixed_depthwise_convolutions_become_one(kernels, sizes, stride, bias):
    result = rewritten(mixed(kernels, sizes, stride, bias), "merge-depthwise")
    assert result.changes == {"merge-depthwise": 1}
    assert {"Split", "Concat"}.isdisjoint(ops(result.model))
    weights = {tensor.name: tensor for tensor in result.model.graph.initializer}["Conv_1_weight"]
    assert list(weights.dims) == [8, 1, max(kernels), max(kernels)]


@pytest.mark.parametrize(
    "model",
    [
        mixed(order=(1, 0)),  # the parts change places
        mixed(kernels=(1, 7), sizes=(7, 1)),  # one kernel would multiply seven times as often
        mixed(kernels=(3, 3), pads=0),  # padding is not half a kernel
    ],
    ids=["order", "growth", "padding"],
)
def test_what_only_looks_like_mixed_depthwise_stays(model):
    assert rewritten(model, "merge-depthwise").changes == {}


def test_a_pass_that_changes_answers_is_left_out_and_that_is_said(monkeypatch, capsys):
    def wrong(model):
        model.graph.initializer[1].CopyFrom(constant("first", np.ones((8, 1, 1, 1))))
        return 1

    monkeypatch.setitem(passes.PASSES, "split-prelu", passes.Pass("PRelu", wrong))
    model = network([node("PRelu", "x slope", "y")], [constant("slope", normal(8, 1, 1))])
    result = rewrite(model, CONTRACT)
    assert result.changes == {}
    assert result.model is model
    assert "note: the rewrite pass split-prelu is left out: the graph before and after" in capsys.readouterr().err


def test_passes_are_left_out_by_name():
    model = network([node("PRelu", "x slope", "y")], [constant("slope", normal(8, 1, 1))])
    assert rewrite(model, CONTRACT, skip=["split-prelu"]).model is model
    with pytest.raises(EdgeferError) as caught:
        rewrite(model, CONTRACT, skip=["prelu"])
    assert caught.value.message == "there is no rewrite pass 'prelu'"
    assert caught.value.hint == "the passes are fold-batchnorm, split-prelu, merge-depthwise"
