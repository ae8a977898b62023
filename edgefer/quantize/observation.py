"""Run faces through a float network and keep a histogram of each activation that could become INT8."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgefer.errors import EdgeferError
from edgefer.quantize.graphview import (
    JOINING,
    RANGE_KEEPING,
    RULED,
    GraphView,
    fingerprint,
    layer_name,
    of_one_face,
    refuse_quantised,
)
from edgefer.quantize.ranges import Histogram, Ranges

Faces = NDArray[np.uint8]
"""N×H×W×C uint8."""

ModelRunner = Callable[[Faces], Mapping[str, NDArray[Any]]]
"""Maps faces to every graph output by name."""

DEFAULT_BUDGET = 64 << 20
"""Bytes of activations held at a time."""

_MAX_FACES = 256  # larger batches gain nothing, and would make the working set depend on tiny networks' budgets


def observed_tensors(model: onnx.ModelProto) -> tuple[str, ...]:
    """The activations that need a range for some scheme's plan, in graph order.

    What a fused Relu hides is left out, and so are pools', reshapes' and concatenations' outputs: they take the range
    of what goes in.

    Raises:
        EdgeferError: the model is already quantised.
    """
    refuse_quantised(model)
    view = GraphView(model)
    inputs = {value.name for value in model.graph.input}
    wanted: dict[str, None] = {}
    for node in view.nodes:
        if node.op_type not in RULED - RANGE_KEEPING or view.fused_into(node) is not None:
            continue
        tensors = [name for position, name in view.activations(node) if position == 0 or node.op_type in JOINING]
        for tensor in (*tensors, *([view.result(node)] if view.result(node) not in view.outputs else [])):
            wanted.update(dict.fromkeys(view.range_sources(tensor)))
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    element = {value.name: value.type.tensor_type.elem_type for value in values}
    order = [output for node in view.nodes for output in node.output]
    return tuple(n for n in order if n in wanted and n not in inputs and element.get(n) == onnx.TensorProto.FLOAT)


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy of ``model`` in which the tensors ``names`` (float32) are graph outputs too."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {value.name for value in copy.graph.output}
    for name in names:
        if name not in present:
            copy.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return copy


def activation_bytes(model: onnx.ModelProto) -> int:
    """Bytes of all activations of one face together, from shape inference."""
    inferred = onnx.shape_inference.infer_shapes(of_one_face(model), strict_mode=True)
    total = 0
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        tensor = value.type.tensor_type
        if not tensor.HasField("shape") or not tensor.elem_type:
            continue
        known = [d.dim_value for d in tensor.shape.dim if d.HasField("dim_value")]
        total += math.prod(known) * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).itemsize
    return total


def batch_for_budget(model: onnx.ModelProto, budget_bytes: int = DEFAULT_BUDGET) -> int:
    """Number of faces to run at a time so that their activations stay within ``budget_bytes``; 1 … 256.

    A large network's faces go through one at a time, whatever they need.

    Raises:
        EdgeferError: the batch axis is fixed at something other than 1.
    """
    fixed = int(model.graph.input[0].type.tensor_type.shape.dim[0].dim_value)  # 0 where it is a name
    if fixed > 1:
        raise EdgeferError(
            f"the model's batch axis is fixed at {fixed}: any number of faces cannot be cut into such batches",
            hint="export the model again; edgefer's own exports have a dynamic batch axis",
        )
    each = max(1, activation_bytes(model))
    return 1 if fixed == 1 else max(1, min(_MAX_FACES, budget_bytes // each))


def observe(
    model: onnx.ModelProto,
    run: Callable[[bytes], ModelRunner],
    faces: Iterable[Faces],
    *,
    budget_bytes: int = DEFAULT_BUDGET,
    name_of: Callable[[int], str] = "face {}".format,
    advance: Callable[[int], object] | None = None,
) -> Ranges:
    """Stream ``faces`` through ``model`` and return the histograms of :func:`observed_tensors`.

    Memory does not grow with the number of faces: they are re-cut into batches of :func:`batch_for_budget`.

    Args:
        model: the float network, one uint8 input.
        run: opens a serialised model and returns the function that runs it.
        faces: uint8 N×H×W×C batches of any sizes, read once.
        budget_bytes: maximum size of the activations held at a time.
        name_of: index of a face → its name in errors.
        advance: called with the number of faces done after every batch.

    Raises:
        EdgeferError: no faces; an activation or a logit is NaN or infinite (names tensor, layer and face); see also
            :func:`observed_tensors` and :func:`batch_for_budget`.
    """
    names = observed_tensors(model)
    size = batch_for_budget(model, budget_bytes)
    runner = run(with_outputs(model, names).SerializeToString())
    others = [value.name for value in model.graph.output if value.name not in names]
    histograms = {name: Histogram() for name in names}
    seen = 0
    for batch in rebatched(faces, size):
        activations = runner(batch)
        for name, histogram in histograms.items():
            if not histogram.add(activations[name]):
                raise _not_finite(model, name, activations[name], seen, name_of)
        for name in others:
            if not np.isfinite(activations[name]).all():
                raise _not_finite(model, name, activations[name], seen, name_of)
        seen += len(batch)
        if advance is not None:
            advance(len(batch))
    if seen == 0:
        raise EdgeferError("there are no faces to calibrate with", hint="give a dataset whose calib part holds some")
    return Ranges(fingerprint(model), seen, histograms)


def rebatched(batches: Iterable[Faces], size: int) -> Iterator[Faces]:
    """The same faces in the same order, ``size`` at a time; the last batch may be smaller."""
    parts: list[Faces] = []
    held = 0
    for batch in batches:
        rest = batch
        while held + len(rest) >= size:
            parts.append(rest[: size - held])
            rest = rest[size - held :]
            yield parts[0] if len(parts) == 1 else np.concatenate(parts)
            parts, held = [], 0
        if len(rest):
            parts.append(rest)
            held += len(rest)
    if parts:
        yield parts[0] if len(parts) == 1 else np.concatenate(parts)


def _not_finite(
    model: onnx.ModelProto, name: str, activation: NDArray[Any], first_face: int, name_of: Callable[[int], str]
) -> EdgeferError:
    finite = np.isfinite(activation).reshape(len(activation), -1)
    face = first_face + int(np.flatnonzero(~finite.all(axis=1))[0])
    maker = GraphView(model).producer[name]
    return EdgeferError(
        f"{name_of(face)} makes {maker.op_type} '{layer_name(maker)}' give NaN or infinity (tensor '{name}')",
        hint="the float network itself is broken for this face: look at its weights, or at a padding with -inf",
    )
