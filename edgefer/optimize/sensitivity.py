"""The cost of INT8, layer by layer: each layer in INT8 alone, everything else in float, evaluated on faces of `val`."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgefer.errors import EdgeferError
from edgefer.measure.paired import Paired
from edgefer.optimize.candidates import Variant, output_error, variants_of
from edgefer.optimize.given_faces import Purpose
from edgefer.optimize.prepared import Evaluation, PreparedModel, prepare_model
from edgefer.optimize.settings import BuildTarget, Quantisation
from edgefer.progress import progress
from edgefer.quantize.graphview import NO_SIZE, WEIGHTED, LayerSize, layer_sizes
from edgefer.quantize.plan import LayerPlan, plan_to_the_end
from edgefer.quantize.scheme import named_scheme
from edgefer.runtimes import CPU, REFERENCE

WHOLE = "all of them"


@dataclass(frozen=True)
class LayerCost:
    """Loss of the answers when ``layer`` alone is INT8 (in the row :data:`WHOLE`: every layer that can be).

    Attributes:
        layer, op: names of the layer and its operator; in edgefer's exports the layer is PyTorch's module.
        sqnr_db: signal to quantisation noise ratio of the logits against float, dB; 200 where nothing changed.
        kl: mean divergence of the probabilities, nats.
        drop_pp: accuracy drop on the faces, percentage points; ci95_pp: its 95 % interval; None without labels.
        agreement: share of faces with float's answer, 0–1.
        size: output shape, parameters and multiply-accumulates, of the row :data:`WHOLE` their sums.
    """

    layer: str
    op: str
    sqnr_db: float
    kl: float
    drop_pp: float | None
    ci95_pp: tuple[float, float] | None
    agreement: float
    size: LayerSize = NO_SIZE

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        own = {key: value for key, value in self.__dict__.items() if key != "size"}
        return {**own, "ci95_pp": None if self.ci95_pp is None else list(self.ci95_pp), **self.size.to_dict()}


@dataclass(frozen=True)
class Sensitivity:
    """Attributes:
    model: the analysed model; runtime, scheme, method: settings of its quantisation.
    faces: number of images that it was evaluated on, from ``origin``; top1 of the float network on them, 0–1, None
        where they have none of the network's labels.
    whole: all layers in INT8 together; layers: each alone, the costliest first.
    float_layers: layer → why it stays float in any case.
    """

    model: str
    runtime: str
    scheme: str
    method: str
    faces: int
    origin: str
    top1: float | None
    whole: LayerCost
    layers: tuple[LayerCost, ...]
    float_layers: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            **self.__dict__,
            "whole": self.whole.to_dict(),
            "layers": [layer.to_dict() for layer in self.layers],
        }


def sensitivity(
    model: str | os.PathLike[str],
    quantisation: Quantisation,
    *,
    runtime: str = REFERENCE.name,
    scheme: str | None = None,
    limit: int | None = None,
    no_rewrite: Collection[str] = (),
    threads: int = 1,
) -> Sensitivity:
    """Rank the layers of ``model`` by what INT8 costs in each alone: by KL divergence, which needs no labels.

    Args:
        model: a file written by :func:`edgefer.export`.
        quantisation: some of its ``data`` set ranges, others evaluate: see
            :func:`~edgefer.optimize.given_faces.divide_faces`.
        runtime: a runtime of this CPU.
        scheme: one of those that suit the runtime here; the first if None.
        limit: evaluate on this number of images at most, stratified.
        no_rewrite: rewrite passes to leave out.
        threads: number of the engines' threads.

    Raises:
        EdgeferError: bad input; too few images; no layer can be INT8.
    """
    quantisation.check(BuildTarget(CPU, runtime), "int8", command="sensitivity")
    variant = chosen_variant(runtime, scheme)
    prepared = prepare_model(model, "int8", quantisation, no_rewrite, Purpose.COMPARISON)
    assert prepared.given is not None  # Quantisation.check looked
    faces = prepared.given.evaluation
    if limit is not None and limit < len(faces):
        faces = faces.stratified(limit, 0)
    evaluation = Evaluation.of(prepared, runtime, faces, threads)
    whole, layers = layer_costs(evaluation, variant)
    plan = plan_to_the_end(prepared.model, named_scheme(str(variant.scheme)))
    return Sensitivity(
        model=os.fspath(model),
        runtime=runtime,
        scheme=str(variant.scheme),
        method=prepared.method,
        faces=len(faces),
        origin=faces.origin,
        top1=evaluation.wanted.top1 if evaluation.labelled else None,
        whole=whole,
        layers=tuple(sorted(layers, key=lambda cost: -cost.kl)),
        float_layers={p.layer: p.reason for p in plan.layers if p.asked != "int8" and not p.reason.startswith("fused")},
    )


def chosen_variant(runtime: str, scheme: str | None) -> Variant:
    """The INT8 variant of ``runtime`` on this CPU with that scheme, the first if None.

    Raises:
        EdgeferError: no such runtime, or the scheme is none of its own here.
    """
    known = variants_of("int8", runtime)
    found = next((v for v in known if scheme in (None, v.scheme)), None)
    if found is None:
        raise EdgeferError(
            f"{runtime} has no scheme '{scheme}' on this CPU",
            hint=f"one of: {', '.join(str(v.scheme) for v in known)}",
        )
    return found


def weighted_layers(prepared: PreparedModel, variant: Variant) -> tuple[LayerPlan, ...]:
    """The layers that can be INT8 and multiply by weights; what lies between follows them.

    Raises:
        EdgeferError: there is none.
    """
    plan = plan_to_the_end(prepared.model, named_scheme(str(variant.scheme)))
    found = tuple(p for p in plan.layers if p.op in WEIGHTED and p.asked == "int8")
    if not found:
        reasons = "; ".join(f"{p.layer}: {p.reason}" for p in plan.layers if p.op in WEIGHTED)
        raise EdgeferError(f"no layer of this model can be INT8 ({reasons or 'none has weights'})", hint="use --fp32")
    return found


def layer_costs(evaluation: Evaluation, variant: Variant) -> tuple[LayerCost, tuple[LayerCost, ...]]:
    """All layers in INT8 together, and each alone, in graph order."""

    def cost_of(layer: str, op: str, keep_float: Sequence[str], size: LayerSize) -> LayerCost:
        found = evaluation.answers(evaluation.prepared.build(variant, keep_float))
        paired = Paired.from_predictions(evaluation.wanted, found)
        errors = output_error(evaluation.wanted, found)
        cost = LayerCost(layer, op, *errors, paired.drop_pp, paired.ci95_pp, paired.agreement, size)
        return cost if evaluation.labelled else replace(cost, drop_pp=None, ci95_pp=None)

    layers = weighted_layers(evaluation.prepared, variant)
    names = [layer.layer for layer in layers]
    sizes = layer_sizes(evaluation.prepared.model)
    together = LayerSize((), sum(sizes[name].parameters for name in names), sum(sizes[name].macs for name in names))
    with progress("layers in INT8 alone", len(layers) + 1) as advance:
        whole = cost_of(WHOLE, "", (), together)
        advance(1)
        costs = []
        for layer in layers:
            others = [name for name in names if name != layer.layer]
            costs.append(cost_of(layer.layer, layer.op, others, sizes[layer.layer]))
            advance(1, layer.layer)
    return whole, tuple(costs)
