"""What a run starts from: fresh weights, or those of a file."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from edgefer.contract import Contract
from edgefer.errors import EdgeferError
from edgefer.models import create
from edgefer.models.weights import Weights, load_network


def beginning(contract: Contract, init: Path | None) -> tuple[nn.Module, Weights | None]:
    """The network to begin with, and the weights that it was given."""
    if init is None:
        return create(contract.architecture, len(contract.labels)), None
    network, found, weights = load_network(init, contract.architecture, contract.labels)
    if found.face_shape != contract.face_shape or found.normalisation != contract.normalisation:
        raise EdgeferError(
            f"{init} was trained on other faces: {found.face_shape}, {found.normalisation}",
            hint="begin with weights of this network's own size and normalisation",
        )
    return network, weights
