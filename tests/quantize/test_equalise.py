import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgefer.errors import EdgeferError
from edgefer.quantize.corrections import only_outputs
from edgefer.quantize.equalise import DEGREE, apply_scales, channel_powers, components, equalising_scales
from edgefer.quantize.observation import observe
from edgefer.quantize.plan import make_plan
from edgefer.quantize.qdq import quantise
from edgefer.quantize.scheme import SCHEMES


def channel_peaks(activation):
    return np.abs(activation).reshape(*activation.shape[:2], -1).max(axis=(0, 2)).astype(np.float64)


def test_the_norm_of_a_channel_is_near_its_peak_and_not_ruled_by_one_value():
    values = np.random.default_rng(0).normal(0, 3, (20, 2, 10, 10)).astype(np.float32)
    values[0, 1, 0, 0] = 60
    got = (channel_powers(values, 60.0) / 2000) ** (1 / DEGREE) * 60.0
    wanted = (np.abs(values.astype(np.float64)).transpose(1, 0, 2, 3).reshape(2, -1) ** DEGREE).mean(axis=1)
    np.testing.assert_allclose(got, wanted ** (1 / DEGREE), rtol=1e-5)
    assert got[0] < channel_peaks(values)[0] < 2 * got[0]
    assert got[1] < 0.6 * 60


def scales_of(model, faces, run):
    peaks = {}
    for component in components(model):
        tensors = [t for t in component.tensors if np.ndim(t) == 0]
        found = run(only_outputs(model, tensors).SerializeToString())(faces)
        peaks[component.name] = equalising_scales([channel_peaks(found[t]) for t in tensors])
    return peaks


def unbalanced(builder, seed=0):
    """A chain of conv-relu, depthwise, conv, in which channels differ by up to a thousand."""
    b = builder(seed=seed)
    x = b.node("Relu", [b.conv(b.top, 1, 8)])
    x = b.node("Relu", [b.conv(x, 8, 8, group=8)])
    x = b.node("MaxPool", [b.conv(x, 8, 16, 1)], kernel_shape=[2, 2], strides=[2, 2])
    x = b.node("Flatten", [b.node("GlobalAveragePool", [x])])
    model = b.model(b.gemm(x, 16, 7))
    factors = np.logspace(-1.5, 1.5, 8).astype(np.float32)
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor).copy()
        if tensor.name in ("conv0_w", "conv0_b"):
            value *= factors.reshape([-1] + [1] * (value.ndim - 1))
        elif tensor.name == "conv1_w":
            value /= factors.reshape(-1, 1, 1, 1)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return model


def test_what_shares_factors(network):
    found = {c.name: ([n.name for n in c.makers], [n.name for n in c.readers], c.channels) for c in components(network)}
    assert found["conv1_out"] == (["conv1"], ["conv2"], 16)
    assert found["gemm0_out"] == (["gemm0"], ["gemm1"], 24)
    assert "conv0_out" not in found  # it goes into a sum that goes into a concatenation
    assert "conv4_out" not in found  # a Clip at six is another function after scaling


def test_a_residual_sum_ties_both_branches_and_pools_pass(builder):
    b = builder()
    x = b.node("Relu", [b.conv(b.top, 1, 8)])
    left = b.node("MaxPool", [b.conv(x, 8, 8)], kernel_shape=[2, 2], strides=[2, 2])
    right = b.conv(x, 8, 8, 1, strides=[2, 2])
    x = b.node("GlobalAveragePool", [b.node("Add", [left, right])])
    model = b.model(b.gemm(b.node("Flatten", [x]), 8, 7))
    (first, second) = components(model)
    assert [node.name for node in first.readers] == ["conv1", "conv2"]
    assert [node.name for node in second.makers] == ["conv1", "conv2"]
    assert [node.name for node in second.readers] == ["gemm0"]


@pytest.mark.parametrize("spatial", [True, False])
def test_any_factors_leave_the_answers_as_they_were(builder, faces, run, spatial):
    b = builder(seed=5)
    x = b.node("Relu", [b.conv(b.top, 1, 8, bias=False)])
    x = b.node("LeakyRelu", [b.conv(x, 8, 12, group=4)], alpha=0.2)
    x = b.node("AveragePool", [b.conv(x, 12, 6)], kernel_shape=[8, 8], strides=[8, 8])
    if not spatial:
        x = b.node("GlobalAveragePool", [x])
    inputs = 24 if spatial else 6  # four places a channel, or one
    model = b.model(b.gemm(b.node("Flatten", [x]), inputs, 7, transposed=spatial))
    found = components(model)
    assert [c.channels for c in found] == [8, 12, 6]
    random = np.random.default_rng(0)
    scales = {c.name: np.exp(random.normal(0, 2, c.channels)).astype(np.float32) for c in found}
    wanted = run(model.SerializeToString())(faces)["logits"]
    changed = apply_scales(model, scales)
    got = run(changed.SerializeToString())(faces)["logits"]
    assert np.abs(got - wanted).max() < 1e-5 * np.abs(wanted).max()
    tensor = found[1].tensors[-1]  # the LeakyRelu's
    before, after = (run(only_outputs(m, [tensor]).SerializeToString())(faces)[tensor] for m in (model, changed))
    np.testing.assert_allclose(after * scales[found[1].name].reshape(1, -1, 1, 1), before, rtol=1e-4, atol=1e-5)


def test_ranges_become_equal_and_int8_gains(builder, faces, run, snr):
    model = unbalanced(builder)
    changed = apply_scales(model, scales_of(model, faces, run))
    name = components(model)[0].tensors[-1]
    before, after = (
        channel_peaks(run(only_outputs(m, [name]).SerializeToString())(faces)[name]) for m in (model, changed)
    )
    fires = before > 0  # one channel never does, and is none the worse for it
    assert 0 < fires.sum() < 8
    assert before.max() / before[fires].min() > 100
    assert after.max() / after[fires].min() < 30  # a factor is at least a 64th
    wanted = run(model.SerializeToString())(faces)["logits"]
    noise = []
    for one in (model, changed):
        scheme = SCHEMES["x86-vnni"]
        ranges = observe(one, run, [faces])
        integer = quantise(one, make_plan(one, scheme), ranges, method="mse").model
        noise.append(snr(wanted, run(integer.SerializeToString())(faces)["logits"]))
    assert noise[1] > noise[0] + 3


def test_factors_by_hand():
    np.testing.assert_allclose(equalising_scales([np.array([4.0, 1.0, 0.0])]), [1, 0.25, 1 / 64], rtol=1e-6)
    both = equalising_scales([np.array([4.0, 1.0]), np.array([1.0, 1.0])])
    np.testing.assert_allclose(both, [1, 0.5], rtol=1e-6)  # the geometric mean of 1/4 and 1
    np.testing.assert_array_equal(equalising_scales([np.zeros(3)]), 1)  # nothing ever fires


def test_weights_of_two_layers_are_left_alone(builder):
    b = builder()
    x = b.node("Relu", [b.conv(b.top, 1, 4)])
    x = b.node("Relu", [b.conv(x, 4, 4)])
    weights = "conv1_w"
    x = b.node("Relu", [b.node("Conv", [x, weights], pads=[1] * 4, kernel_shape=[3, 3])])
    model = b.model(b.gemm(b.node("Flatten", [b.node("GlobalAveragePool", [x])]), 4, 7))
    assert components(model) == ()


def test_scales_of_another_model_are_refused(network):
    for scales in ({"nowhere": np.ones(3, np.float32)}, {"conv1_out": np.ones(3, np.float32)}):
        with pytest.raises(EdgeferError, match=r"fit no activation of this model") as caught:
            apply_scales(network, scales)
        assert "calibrate this one" in caught.value.hint


def test_the_model_given_is_not_changed(network):
    before = network.SerializeToString(deterministic=True)
    apply_scales(network, {"conv1_out": np.full(16, 0.5, np.float32)})
    assert network.SerializeToString(deterministic=True) == before
    assert isinstance(network, onnx.ModelProto)
