import itertools
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefer.quantize.corrections import (
    BIAS,
    ROUNDING,
    Columns,
    Moments,
    _replace,
    correct,
    only_outputs,
    rounded_levels,
)
from edgefer.quantize.observation import observe, with_outputs
from edgefer.quantize.plan import make_plan
from edgefer.quantize.qdq import quantise
from edgefer.quantize.scheme import SCHEMES

X86 = SCHEMES["x86-vnni"]


def moments_of(x, rounded=None):
    found = Moments.empty(x.shape[0], x.shape[1])
    found.add(x.astype(np.float32), (x if rounded is None else rounded).astype(np.float32))
    return found


def correlated(groups, inputs, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(0, 1, (groups, inputs, inputs)) @ random.normal(0, 1, (groups, inputs, 500)) + 0.3


def loss(weights, levels, scales, moments, ridge):
    second, _ = moments.centred()
    extra = ridge * np.einsum("gkk->gk", second).mean(axis=1)
    error = levels * scales[:, :, None] - weights
    return np.einsum("gok,gkj,goj->go", error, second, error) + extra[:, None] * (error**2).sum(axis=2)


def test_no_choice_of_up_and_down_is_much_better():
    random = np.random.default_rng(1)
    weights, scales = random.normal(0, 1, (2, 3, 6)), np.full((2, 3), 0.31)
    moments = moments_of(correlated(2, 6))
    levels = rounded_levels(weights, scales, moments, 127, sweeps=10)
    assert levels.dtype == np.int8
    floor = np.floor(weights / scales[:, :, None])
    assert set(np.unique(levels - floor)) <= {0, 1}
    best = np.min(
        [loss(weights, floor + np.array(ups), scales, moments, 0.02) for ups in itertools.product((0, 1), repeat=6)],
        axis=0,
    )
    nearest = loss(weights, np.rint(weights / scales[:, :, None]), scales, moments, 0.02)
    found = loss(weights, levels, scales, moments, 0.02)
    assert (found <= nearest + 1e-9).all()
    assert (found >= best - 1e-9).all()
    assert found.sum() < best.sum() + 0.6 * (nearest.sum() - best.sum())  # coordinate descent stops at a local optimum


def test_uncorrelated_inputs_give_the_nearest_levels():
    random = np.random.default_rng(2)
    weights, scales = random.normal(0, 1, (1, 4, 5)), np.full((1, 4), 0.1)
    found = Moments(1, np.zeros((1, 5)), np.zeros((1, 5)), np.eye(5)[None], np.eye(5)[None])
    np.testing.assert_array_equal(rounded_levels(weights, scales, found, 127), np.rint(weights / 0.1))


def test_the_largest_weight_keeps_its_level_and_the_limit_holds():
    weights = np.array([[[1.0, -0.3, 0.26], [0.1, 0.2, -2.0]]])
    scales = np.abs(weights).max(axis=2) / 63
    levels = rounded_levels(weights.astype(np.float32).astype(np.float64), scales, moments_of(correlated(1, 3)), 63)
    assert levels[0, 0, 0] == 63
    assert levels[0, 1, 2] == -63


@pytest.mark.parametrize(
    ("attributes", "inside", "outside"),
    [
        ({}, 3, 5),
        ({"group": 4}, 4, 8),
        ({"strides": [2, 2]}, 3, 5),
        ({"dilations": [2, 2]}, 2, 4),
    ],
)
def test_columns_times_weights_are_the_convolution(builder, faces, run, attributes, inside, outside):
    b = builder(seed=7)
    x = b.conv(b.top, 1, inside)
    y = b.conv(x, inside, outside, bias=False, **attributes)
    model = b.model(b.node("ReduceMean", [y], axes=[2, 3], keepdims=0))
    tensors = run(only_outputs(model, [x, y]).SerializeToString())(faces[:3])
    node = next(n for n in model.graph.node if n.name == "conv1")
    weights = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "conv1_w")
    cut = Columns(node, weights.shape)
    columns, same = cut.both(tensors[x], tensors[x], np.random.default_rng(0))
    np.testing.assert_array_equal(columns, same)
    got = weights.reshape(cut.groups, -1, cut.inputs) @ columns
    every = tensors[y].reshape(3, outside, -1)
    places = np.random.default_rng(0).permutation(every.shape[2])[:36]
    np.testing.assert_allclose(
        got.reshape(outside, 3, -1).transpose(1, 0, 2), every[:, :, places], rtol=1e-3, atol=1e-4
    )


@pytest.fixture(scope="module")
def ranges(network, faces, run):
    return observe(network, run, [faces])


def test_rounding_again_gives_the_levels_that_were_chosen(network, faces, run, ranges):
    plan = make_plan(network, X86)
    done = correct(network, plan, ranges, "mse", [faces], run, steps=(ROUNDING,))
    assert done.changes == {ROUNDING: 7}
    again = correct(done.model, plan, ranges, "mse", [faces], run, steps=(ROUNDING,))
    assert again.changes == {ROUNDING: 0}
    integer = quantise(done.model, plan, ranges, method="mse", same_model=False).model
    constants = {t.name: numpy_helper.to_array(t) for t in integer.graph.initializer}
    stored = {t.name: numpy_helper.to_array(t) for t in done.model.graph.initializer}
    levels, scales = constants["conv1_out_corrected1_quantized"], constants["conv1_out_corrected1_scale"]
    np.testing.assert_allclose(
        levels * scales.reshape(-1, 1, 1, 1), stored["conv1_out_corrected1"], rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        *(("x86-vnni", steps) for steps in ((BIAS,), (ROUNDING, BIAS))),  # rounding alone leaves the means to bias
        ("x86", (ROUNDING, BIAS)),  # seven bits: rounding has more to do
        ("tensorrt", (BIAS,)),
    ],
)
def test_answers_come_nearer(network, faces, run, ranges, snr, name, steps):
    scheme = SCHEMES[name]
    plan = make_plan(network, scheme)
    wanted = run(network.SerializeToString())(faces)["logits"]
    noise = []
    for model in (network, correct(network, plan, ranges, "mse", [faces], run, steps=steps).model):
        integer = quantise(model, plan, ranges, method="mse", same_model=False).model
        noise.append(snr(wanted, run(integer.SerializeToString())(faces)["logits"]))
    assert noise[1] > noise[0]


def test_the_mean_answer_of_each_channel_is_floats(network, faces, run, ranges):
    plan = make_plan(network, X86)
    model = correct(network, plan, ranges, "mse", [faces], run, steps=(BIAS,)).model
    shift = []
    for one in (network, model):
        integer = quantise(one, plan, ranges, method="mse", same_model=False).model
        wanted, found = (
            run(only_outputs(m, ["conv4_out"]).SerializeToString())(faces)["conv4_out"] for m in (network, integer)
        )
        shift.append(np.abs((found - wanted).mean(axis=(0, 2, 3))).max())
    assert shift[1] < 0.1 * shift[0]


def test_the_model_given_is_not_changed_and_shared_weights_are_not_rounded(builder, faces, run):
    b = builder()
    x = b.node("Relu", [b.conv(b.top, 1, 4)])
    x = b.node("Relu", [b.conv(x, 4, 4)])
    x = b.node("Relu", [b.node("Conv", [x, "conv1_w"], pads=[1] * 4, kernel_shape=[3, 3])])
    model = b.model(b.gemm(b.node("Flatten", [b.node("GlobalAveragePool", [x])]), 4, 7))
    before = model.SerializeToString(deterministic=True)
    plan, ranges = make_plan(model, X86), observe(model, run, [faces])
    done = correct(model, plan, ranges, "mse", [faces], run)
    assert model.SerializeToString(deterministic=True) == before
    assert done.changes[ROUNDING] <= 2  # the first convolution and the Gemm
    kept = {t.name: numpy_helper.to_array(t) for t in done.model.graph.initializer}
    original = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    np.testing.assert_array_equal(kept["conv1_w"], original["conv1_w"])
    quantise(done.model, plan, ranges, same_model=False)


def test_nothing_is_computed_that_was_not_asked_for(network, faces, run):
    part = only_outputs(network, ["conv2_out"])
    assert 0 < len(part.graph.node) < len(network.graph.node)
    assert part.graph.node[-1].output == ["conv2_out"]
    read = {name for node in part.graph.node for name in node.input}
    assert {tensor.name for tensor in part.graph.initializer} <= read
    whole = run(with_outputs(network, ["conv2_out"]).SerializeToString())(faces[:3])
    np.testing.assert_array_equal(run(part.SerializeToString())(faces[:3])["conv2_out"], whole["conv2_out"])


def resident_pages():
    return int(Path("/proc/self/statm").read_text().split()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/statm")
def test_a_new_constant_leaves_the_others_where_they_are():
    """A message frees what was in it only with itself, so weights written anew for every layer would all stay."""
    weights = numpy_helper.from_array(np.zeros((1000, 1000), np.float32), "weights")
    bias = numpy_helper.from_array(np.zeros(1000, np.float32), "bias")
    node = helper.make_node("Gemm", ["x", "weights", "bias"], ["y"], name="fc", transB=1)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1000]) for name in "xy")
    model = helper.make_model(helper.make_graph([node], "g", [x], [y], [weights, bias]))
    before = resident_pages()
    for value in range(100):
        _replace(model, model.graph.node[0], 2, np.full(1000, value, np.float32))
    assert (resident_pages() - before) * os.sysconf("SC_PAGE_SIZE") < 40e6  # of 4 MB a hundred copies would be 400
    assert [tensor.name for tensor in model.graph.initializer] == ["weights", "y_corrected2"]
    assert (numpy_helper.to_array(model.graph.initializer[1]) == 99).all()
