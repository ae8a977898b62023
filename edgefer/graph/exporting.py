"""From a network's name and its weights to a checked ONNX file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgefer.data.classes import FER2013
from edgefer.errors import EdgeferError, require
from edgefer.models.registry import architecture, default_contract

if TYPE_CHECKING:
    from edgefer.graph.torch_export import ExportResult

TOLERANCE = 1e-4


def export(
    model: str,
    output: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    random_weights: bool = False,
    labels: Sequence[str] = FER2013,
    simplify: bool = True,
    tolerance: float = TOLERANCE,
) -> ExportResult:
    """Write the network ``model`` as ONNX with its normalisation inside, checked against PyTorch.

    Args:
        model: a name of the zoo.
        output: the ``.onnx`` file.
        weights: a weights file; those that ship if None.
        random_weights: fresh weights (seed 0) instead, for measuring speed.
        labels: the classes, where random weights or a bare state dict do not say.
        simplify: run onnxsim, checked.
        tolerance: largest difference from PyTorch relative to the largest logit.

    Raises:
        EdgeferError: an unknown network, no weights, weights of another network, or a difference over ``tolerance``.
    """
    architecture(model)
    if weights is not None and random_weights:
        raise EdgeferError("weights and random weights exclude each other", hint="leave out --random-weights")
    torch = require("torch", "export", "exporting")
    from edgefer.graph.torch_export import export_model
    from edgefer.models import create

    if random_weights:
        torch.manual_seed(0)
        network, contract = create(model, len(labels)), default_contract(model, labels)
    else:
        from edgefer.models.weights import load_network, shipped

        source = weights if weights is not None else shipped(model)
        if source is None:
            raise EdgeferError(
                f"no weights ship for {model}, and none were given",
                hint=f"--weights FILE (`edgefer train --model {model}` makes one), or --random-weights to measure speed",
            )
        network, contract, _ = load_network(source, model=model)
    return export_model(network.eval(), contract, output, simplify=simplify, tolerance=tolerance)
