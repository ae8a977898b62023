"""The passes by name, and how they are run: one after the other, each checked."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import onnx

from edgefer.contract import Contract
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.errors import EdgeferError
from edgefer.graph.load import check_interface
from edgefer.graph.names import canonicalise
from edgefer.graph.parity import measure_parity, require_parity
from edgefer.graph.rewriting.batchnorm import fold_batchnorm
from edgefer.graph.rewriting.depthwise import merge_depthwise
from edgefer.graph.rewriting.prelu import split_prelu
from edgefer.graph.save import serialise
from edgefer.progress import announce

TOLERANCE = 1e-4
"""Largest difference of a logit that a pass may make, relative to the largest logit."""


@dataclass(frozen=True)
class Pass:
    """``apply`` changes a model in place and returns in how many places; a graph without ``op`` is not worth a try."""

    op: str
    apply: Callable[[onnx.ModelProto], int]


PASSES = {
    "fold-batchnorm": Pass("BatchNormalization", fold_batchnorm),
    "split-prelu": Pass("PRelu", split_prelu),
    "merge-depthwise": Pass("Split", merge_depthwise),
}
"""Every pass, in the order in which they run."""


@dataclass(frozen=True)
class Rewritten:
    """The model to go on with, in canonical form, and in how many places each pass changed it."""

    model: onnx.ModelProto
    changes: dict[str, int] = field(default_factory=dict)


def check_names(names: Collection[str]) -> None:
    """Refuse names that are no pass.

    Raises:
        EdgeferError: with the passes that there are.
    """
    for name in names:
        if name not in PASSES:
            raise EdgeferError(f"there is no rewrite pass '{name}'", hint=f"the passes are {', '.join(PASSES)}")


def rewrite(
    model: onnx.ModelProto, contract: Contract, *, skip: Collection[str] = (), tolerance: float = TOLERANCE
) -> Rewritten:
    """Run every pass but those in ``skip`` on a copy of ``model``.

    After a pass that changed something, the graph must answer as before it in ONNX Runtime, on synthetic faces and
    noise, within ``tolerance`` of the logits' scale; otherwise that is announced, and the graph goes on as it was.

    Raises:
        EdgeferError: a name in ``skip`` is no pass.
    """
    check_names(skip)
    current, changes = model, {}
    for name, rewriting in PASSES.items():
        if name in skip or all(node.op_type != rewriting.op for node in current.graph.node):
            continue
        changed = onnx.ModelProto()
        changed.CopyFrom(current)
        places = rewriting.apply(changed)
        if not places:
            continue
        try:
            current = _checked(current, changed, contract, tolerance, name)
            changes[name] = places
        except EdgeferError as cause:
            announce(f"note: the rewrite pass {name} is left out: {cause.message}")
    return Rewritten(current, changes)


def _checked(
    before: onnx.ModelProto, after: onnx.ModelProto, contract: Contract, tolerance: float, name: str
) -> onnx.ModelProto:
    result = canonicalise(after)
    what = f"the graph before and after {name}"
    check_interface(result, contract, f"the graph after {name}")
    original, candidate = (OnnxRuntimeSession(serialise(model), optimise=False) for model in (before, result))
    require_parity(measure_parity(original, candidate, contract), tolerance, what)
    return result
