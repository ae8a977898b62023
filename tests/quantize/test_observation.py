import tracemalloc

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgefer.errors import EdgeferError
from edgefer.quantize.graphview import GraphView, fingerprint, macs_by_layer
from edgefer.quantize.observation import (
    activation_bytes,
    batch_for_budget,
    observe,
    observed_tensors,
    rebatched,
    with_outputs,
)
from edgefer.quantize.plan import make_plan
from edgefer.quantize.qdq import quantise
from edgefer.quantize.ranges import Ranges
from edgefer.quantize.scheme import SCHEMES


def test_only_tensors_that_can_become_int8_are_observed(network):
    assert observed_tensors(network) == (
        "mul0_out",  # the normalised face
        "maxpool0_out",  # conv0 and its ReLU take this range: nobody else reads them
        "relu1_out",
        "conv2_out",  # one side of the residual sum
        "relu2_out",
        "conv3_out",
        "leakyrelu0_out",
        "averagepool0_out",
        "clip0_out",
        "globalaveragepool0_out",
        "relu3_out",
    )


def test_what_a_max_pool_alone_reads_takes_the_range_of_what_it_gives(builder, faces, run):
    """Clipping before a maximum is clipping the maximum: what lies below costs levels and is never seen."""
    b = builder()
    alone = b.conv(b.top, 1, 8)
    left = b.node("MaxPool", [alone], kernel_shape=[2, 2], strides=[2, 2])
    shared = b.conv(left, 8, 8)
    right = b.node("MaxPool", [shared], kernel_shape=[2, 2], strides=[2, 2])
    far = b.conv(shared, 8, 8, strides=[2, 2])
    pooled = b.node("GlobalAveragePool", [b.conv(b.node("Add", [right, far]), 8, 2)])
    model = b.model(b.node("Flatten", [pooled]))
    names = observed_tensors(model)
    assert "maxpool0_out" in names
    assert alone not in names
    assert shared in names  # somebody else reads it too
    assert "maxpool1_out" not in names
    ranges = observe(model, run, [faces])
    view = GraphView(model)
    assert view.range_sources(alone) == view.range_sources(left) == ("maxpool0_out",)
    assert view.range_sources(right) == (shared,)
    assert view.computed_from(left) == (alone,)
    seen = run(with_outputs(model, [alone]).SerializeToString())(faces)[alone]
    assert seen.min() < ranges["maxpool0_out"].minimum
    x86 = SCHEMES["x86-vnni"]
    integer = quantise(model, make_plan(model, x86), ranges, method="minmax").model
    stored = {t.name: numpy_helper.to_array(t) for t in integer.graph.initializer}
    histogram = ranges["maxpool0_out"]
    assert stored[f"{alone}_scale"] * 255 == pytest.approx(histogram.maximum - min(0, histogram.minimum), rel=1e-3)


def test_histograms_are_those_of_the_activations(network, faces, run):
    ranges = observe(network, run, [faces[:50], faces[50:]], budget_bytes=activation_bytes(network) * 7)
    activations = run(with_outputs(network, observed_tensors(network)).SerializeToString())(faces)
    assert ranges.faces == 96
    assert ranges.model == fingerprint(network)
    for name, histogram in ranges.tensors.items():
        assert histogram.count == activations[name].size
        assert histogram.maximum == pytest.approx(activations[name].max(), rel=1e-5)
        assert histogram.minimum == pytest.approx(activations[name].min(), rel=1e-5)


def test_with_outputs_leaves_the_model_alone(network):
    before = network.SerializeToString()
    extended = with_outputs(network, ["relu0_out", "logits"])
    assert [value.name for value in extended.graph.output] == ["logits", "relu0_out"]
    assert network.SerializeToString() == before


def test_activation_bytes_of_a_known_network(builder):
    b = builder(size=8)
    model = b.model(b.conv(b.top, 1, 4), outputs=4)
    # uint8 input, its float cast, the transposed and the scaled one, four channels of logits
    assert activation_bytes(model) == 64 * (1 + 4 + 4 + 4 + 16)
    assert batch_for_budget(model, 10 * 64 * 29 + 5) == 10
    assert batch_for_budget(model, 1 << 30) == 256
    assert batch_for_budget(model, 1000) == 1


def test_a_graph_that_doubles_the_batch_needs_twice_the_bytes_and_work(builder):
    b = builder(size=8)
    plain = b.model(b.conv(b.top, 1, 4), outputs=4)
    b = builder(size=8)
    b.nodes.append(helper.make_node("Concat", [b.top, b.top], ["both"], axis=0))
    doubled = b.model(b.conv("both", 1, 4), outputs=4)
    assert activation_bytes(doubled) - activation_bytes(plain) == 64 * (2 * 4 + 16)
    (one,), (two,) = macs_by_layer(plain).values(), macs_by_layer(doubled).values()
    assert two == 2 * one > 0
    for tensor in plain.graph.initializer:  # as files before IR version 4 do
        plain.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    assert tuple(macs_by_layer(plain).values()) == (one,)


def test_a_batch_axis_fixed_at_one_is_kept_and_any_other_refused(builder):
    b = builder(size=8)
    top = b.conv(b.top, 1, 4)
    assert batch_for_budget(b.model(top, outputs=4, batch=1)) == 1
    with pytest.raises(EdgeferError, match="batch axis is fixed at 8") as caught:
        batch_for_budget(b.model(top, outputs=4, batch=8))
    assert "dynamic batch" in caught.value.hint


@pytest.mark.parametrize("size", [1, 4, 7, 100])
def test_rebatching_keeps_faces_and_order(size):
    faces = np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1)
    batches = list(rebatched(iter([faces[:5], faces[5:5], faces[5:33], faces[33:]]), size))
    assert [len(batch) for batch in batches[:-1]] == [size] * (60 // size if 60 % size else 60 // size - 1)
    np.testing.assert_array_equal(np.concatenate(batches), faces)


def test_memory_does_not_grow_with_the_number_of_faces(network, faces, run):
    def peak(count: int) -> int:
        stream = (np.roll(faces, shift, axis=1) for shift in range(count // 96))
        tracemalloc.start()  # numpy's arrays are counted, those of the outputs among them
        observe(network, run, stream, budget_bytes=2 << 20)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak(96 * 2)  # the first run imports and caches
    few, many = peak(96 * 5), peak(96 * 50)
    assert many < 1.1 * few
    assert many < 4 << 20


def broken(network: onnx.ModelProto) -> onnx.ModelProto:
    """The network with a weight so large that bright faces overflow float32 in conv2."""
    copy = onnx.ModelProto()
    copy.CopyFrom(network)
    weights = next(t for t in copy.graph.initializer if t.name == "conv2_w")
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(3e38), "conv2_w"))
    return copy


def test_nan_and_infinity_name_layer_and_face(network, faces, run):
    some = faces[:40].copy()
    some[:] = 0
    some[33] = faces[33]
    model = broken(network)
    zeroed = next(t for t in model.graph.initializer if t.name == "conv0_b")
    zeroed.CopyFrom(numpy_helper.from_array(np.zeros(16, np.float32), "conv0_b"))
    zeroed = next(t for t in model.graph.initializer if t.name == "conv1_b")
    zeroed.CopyFrom(numpy_helper.from_array(np.zeros(16, np.float32), "conv1_b"))
    with pytest.raises(
        EdgeferError, match=r"face 33 makes Conv 'conv2' give NaN or infinity \(tensor 'conv2_out'\)"
    ) as caught:
        observe(model, run, [some[:20], some[20:]], budget_bytes=activation_bytes(model) * 8)
    assert "-inf" in caught.value.hint


def test_no_faces_is_an_error(network, run):
    with pytest.raises(EdgeferError, match="no faces to calibrate with"):
        observe(network, run, [])


def test_progress_is_told_of_every_face(network, faces, run):
    done: list[int] = []
    observe(network, run, [faces], budget_bytes=activation_bytes(network) * 40, advance=done.append)
    assert done == [40, 40, 16]


def test_an_unknown_tensor_is_named():
    with pytest.raises(EdgeferError, match="the ranges hold no tensor 'x'") as caught:
        Ranges("0" * 64, 1, {})["x"]
    assert "calibrate this one" in caught.value.hint
