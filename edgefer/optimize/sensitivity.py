"""What INT8 costs, layer by layer: each layer in INT8 alone, everything else in float, judged on faces of `val`."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgefer.contract import Contract
from edgefer.data import FaceSet, aligned, open_dataset
from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import Predictions
from edgefer.measure.evaluate import evaluate
from edgefer.measure.paired import Paired
from edgefer.optimize.job import Job, prepare_job
from edgefer.optimize.output_error import OutputError
from edgefer.optimize.settings import BuildTarget, Quantisation
from edgefer.optimize.variants import Built, Variant, variants_of
from edgefer.progress import progress
from edgefer.quantize.graphview import WEIGHTED
from edgefer.quantize.plan import LayerPlan, plan_to_the_end
from edgefer.quantize.scheme import named_scheme

WHOLE = "all of them"


@dataclass(frozen=True)
class LayerCost:
    """What the answers lose when ``layer`` alone is INT8 (in the row :data:`WHOLE`: every layer that can be).

    Attributes:
        layer, op: as plans call them.
        sqnr_db: of the logits against float, dB; 200 where nothing changed.
        kl: mean divergence of the probabilities, nats.
        drop_pp: accuracy drop on the faces, percentage points; ci95_pp: its 95 % interval.
        agreement: share of faces with float's answer, 0–1.
    """

    layer: str
    op: str
    sqnr_db: float
    kl: float
    drop_pp: float
    ci95_pp: tuple[float, float]
    agreement: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**self.__dict__, "ci95_pp": list(self.ci95_pp)}


@dataclass(frozen=True)
class Sensitivity:
    """Attributes:
    model: what was looked at; runtime, scheme, method: how it was quantised.
    faces: how many it was judged on, from ``origin``; top1 of the float network on them, 0–1.
    whole: all layers in INT8 together; layers: each alone, the costliest first.
    float_layers: layer → why it stays float in any case.
    """

    model: str
    runtime: str
    scheme: str
    method: str
    faces: int
    origin: str
    top1: float
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
    runtime: str = "onnxruntime",
    scheme: str | None = None,
    limit: int | None = None,
    no_rewrite: Collection[str] = (),
    threads: int = 1,
) -> Sensitivity:
    """Rank the layers of ``model`` by what INT8 costs in each alone.

    Args:
        model: what :func:`edgefer.export` wrote.
        quantisation: its ``data`` have a train split: their ``calib`` part sets ranges, their ``val`` part evaluates.
        runtime: ``"onnxruntime"`` or ``"openvino"``.
        scheme: of those that suit the runtime here; the first if None.
        limit: evaluate on this number of images at most, stratified.
        no_rewrite: rewrite passes to leave out.
        threads: of the engines.

    Raises:
        EdgeferError: bad input; the data name a single split; no layer can be INT8.
    """
    quantisation.check(BuildTarget("cpu", runtime), "int8", command="sensitivity")
    variant = chosen_variant(runtime, scheme)
    data = quantisation.data
    faces = open_dataset(data) if isinstance(data, str) else data
    assert faces is not None  # check looked
    refuse_one_split(faces)
    job = prepare_job(model, "int8", replace(quantisation, data=faces), no_rewrite)
    judges = judging_faces(faces, job.contract)
    if limit is not None and limit < len(judges):
        judges = judges.stratified(limit, 0)
    reference = answers(job.build(Variant(runtime, "fp32")), job.contract, judges, threads)
    whole, layers = layer_costs(job, variant, judges, reference, threads)
    plan = plan_to_the_end(job.model, named_scheme(str(variant.scheme)))
    left = {p.layer: p.reason for p in plan.layers if p.asked != "int8" and not p.reason.startswith("fused")}
    ranked = tuple(sorted(layers, key=lambda cost: -cost.kl))
    origin = judges.origin
    return Sensitivity(
        os.fspath(model),
        runtime,
        str(variant.scheme),
        job.method,
        len(judges),
        origin,
        reference.top1,
        whole,
        ranked,
        left,
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


def judging_faces(faces: FaceSet, contract: Contract) -> FaceSet:
    """The ``val`` part of ``faces``, which must not name a split: ranges come from another one.

    Raises:
        EdgeferError: it does, or it has no such part.
    """
    refuse_one_split(faces)
    return aligned(faces.split("val"), contract.labels)


def refuse_one_split(faces: FaceSet) -> None:
    """Raise an EdgeferError where ``faces`` name a split, so that there is no `val` beside `calib`."""
    if faces.picked is not None:
        raise EdgeferError(
            f"this needs the `calib` and the `val` part of the faces, and {faces.origin} names one split",
            hint="leave the split out of --calib",
        )


def answers(built: Built, contract: Contract, faces: FaceSet, threads: int = 1) -> Predictions:
    """Open, ask about ``faces``, close."""
    with built.open(contract, threads) as engine:
        return evaluate(engine, faces)


def weighted_layers(job: Job, variant: Variant) -> tuple[LayerPlan, ...]:
    """The layers that can be INT8 and multiply by weights; what lies between follows them.

    Raises:
        EdgeferError: there is none.
    """
    plan = plan_to_the_end(job.model, named_scheme(str(variant.scheme)))
    found = tuple(p for p in plan.layers if p.op in WEIGHTED and p.asked == "int8")
    if not found:
        reasons = "; ".join(f"{p.layer}: {p.reason}" for p in plan.layers if p.op in WEIGHTED)
        raise EdgeferError(f"no layer of this model can be INT8 ({reasons or 'none has weights'})", hint="use --fp32")
    return found


def layer_costs(
    job: Job, variant: Variant, faces: FaceSet, reference: Predictions, threads: int = 1
) -> tuple[LayerCost, tuple[LayerCost, ...]]:
    """All layers in INT8 together, and each alone, in graph order; judged on ``faces`` against ``reference``."""
    layers = weighted_layers(job, variant)
    names = [layer.layer for layer in layers]
    with progress("layers in INT8 alone", len(layers) + 1) as advance:
        whole = _cost(job, variant, (), WHOLE, "", faces, reference, threads)
        advance(1)
        costs = []
        for layer in layers:
            others = [name for name in names if name != layer.layer]
            costs.append(_cost(job, variant, others, layer.layer, layer.op, faces, reference, threads))
            advance(1, layer.layer)
    return whole, tuple(costs)


def _cost(
    job: Job,
    variant: Variant,
    keep_float: Sequence[str],
    layer: str,
    op: str,
    faces: FaceSet,
    reference: Predictions,
    threads: int,
) -> LayerCost:
    found = answers(job.build(variant, keep_float), job.contract, faces, threads)
    paired, error = Paired.from_predictions(reference, found), OutputError.of(reference, found)
    return LayerCost(layer, op, error.sqnr_db, error.kl, paired.drop_pp, paired.ci95_pp, paired.agreement)
