"""From a network of the zoo, or any module, to a checked ONNX file. Torch is imported when it is used."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgefer.contract import Contract
from edgefer.contract_file import read_contract
from edgefer.data.classes import FER2013
from edgefer.errors import EdgeferError, require
from edgefer.models.registry import architecture, default_contract, names
from edgefer.runtimes import REFERENCE

if TYPE_CHECKING:
    from edgefer.graph.torch_export import ExportResult, Network

TOLERANCE = 1e-4
"""Largest difference of a logit from PyTorch's, relative to the largest logit: float32 sums in another order."""


def export(
    model: str | Network | None,
    output: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    random_weights: bool = False,
    labels: Sequence[str] | None = None,
    contract: Contract | str | os.PathLike[str] | None = None,
    simplify: bool = True,
    tolerance: float = TOLERANCE,
) -> ExportResult:
    """Write a network as ONNX with its normalisation inside, checked against PyTorch.

    Args:
        model: a name of the zoo; ``package.module:factory``, which returns a module; or a module, normalised float
            N×C×H×W → logits, which brings its own weights. None: the network that the contract in ``weights`` names.
        output: the ``.onnx`` file.
        weights: with a name: a weights file; those that ship if None. With a factory: a state dict; those that it gives
            if None.
        random_weights: with a name: fresh weights (seed 0) instead, for measuring speed.
        labels: with a name: the classes, where random weights (FER2013's if None) or a bare state dict do not say.
        contract: with a module or a factory: the contract of its input and output, or a TOML file of it; with a factory
            it may be left out where the weights carry one.
        simplify: run onnxsim, checked.
        tolerance: largest difference from PyTorch relative to the largest logit.

    Raises:
        EdgeferError: an unknown network, no weights, weights of another network, arguments that exclude each other, no
            torch, or what :func:`edgefer.models.factory.build_from_factory` or
            :func:`edgefer.graph.torch_export.export_model` refuses.
    """
    if Path(output).suffix != ".onnx":
        raise EdgeferError(
            f"a model is written as .onnx, not as {output}", hint=f"-o {Path(output).with_suffix('.onnx')}"
        )
    require("torch", "export", "exporting")
    REFERENCE.require("comparing an export with PyTorch")
    from edgefer.graph.torch_export import export_model

    if isinstance(contract, str | os.PathLike):
        contract = read_contract(contract)
    if model is None:
        model = _named_by(weights)
    if isinstance(model, str) and ":" in model:
        from edgefer.models.factory import build_from_factory

        if contract is None and weights is not None:
            from edgefer.models.weights import load_weights

            contract = load_weights(weights).contract
        if contract is None or random_weights or labels is not None:
            raise EdgeferError(
                f"{model} is exported with a contract, which has its labels, and with weights of a file or its own",
                hint="--contract contract.toml: `edgefer contract new` writes a template",
            )
        network, contract = build_from_factory(model, contract, weights)
        return export_model(network, contract, output, simplify=simplify, tolerance=tolerance)
    if isinstance(model, str):
        if contract is not None:
            raise EdgeferError(
                f"'{model}' has a contract of its own", hint="pass labels; a contract goes with a module"
            )
        network, contract = _from_zoo(model, weights, random_weights, labels)
        return export_model(network, contract, output, simplify=simplify, tolerance=tolerance)
    if contract is None or weights is not None or random_weights or labels is not None:
        raise EdgeferError(
            "a module is exported with the weights it has, and with a contract",
            hint="edgefer.export(module, 'model.onnx', contract=Contract(labels=…, height=…, …))",
        )
    return export_model(model, contract, output, simplify=simplify, tolerance=tolerance)


def _named_by(weights: str | os.PathLike[str] | None) -> str:
    """The network of the zoo that the contract in a weights file names."""
    from edgefer.models.weights import load_weights

    if weights is None:
        raise EdgeferError("neither a network nor weights were given", hint="--model NAME, or --weights FILE")
    found = load_weights(weights).contract
    if found is None:
        raise EdgeferError(
            f"{weights} does not say which network it is for: it carries no edgefer contract",
            hint="--model NAME says it, or --module PKG.MOD:FACTORY for a network of your own",
        )
    if found.architecture not in names():
        factory = found.lineage.get("factory", "PKG.MOD:FACTORY")
        raise EdgeferError(
            f"{weights} is for '{found.architecture}', which is no network of the zoo",
            hint=f"name your own network: --module {factory} --weights {weights}",
        )
    return found.architecture


def _from_zoo(
    name: str, weights: str | os.PathLike[str] | None, random_weights: bool, labels: Sequence[str] | None
) -> tuple[Network, Contract]:
    """The network and its contract, whose lineage says which weights these are."""
    architecture(name)  # an unknown name is the first thing to say
    if weights is not None and random_weights:
        raise EdgeferError("weights and random weights exclude each other", hint="leave out --random-weights")
    if random_weights:
        from edgefer.graph.torch_export import untrained

        return untrained(default_contract(name, FER2013 if labels is None else labels))
    from edgefer.models.weights import load_network, shipped

    source = weights if weights is not None else shipped(name)
    if source is None:
        raise EdgeferError(
            f"no weights ship for {name}, and none were given",
            hint=f"--weights FILE (`edgefer train --model {name}` makes one), or --random-weights to measure speed",
        )
    network, contract, loaded = load_network(source, name, labels)
    origin = {"weights_sha256": loaded.sha256, "weights_file": Path(source).name}
    return network, replace(contract, lineage={**contract.lineage, **origin})
