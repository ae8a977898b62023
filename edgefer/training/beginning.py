"""What a run starts from: fresh weights, or those of a file; and the teachers it learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from edgefer.contract import Contract
from edgefer.errors import EdgeferError
from edgefer.models import architecture, create, default_contract
from edgefer.models.probing import probe
from edgefer.models.weights import SEEN_DIGITS, load_network, load_weights
from edgefer.progress import announce
from edgefer.training.distillation import Teachers, open_teachers

if TYPE_CHECKING:
    from edgefer.data import FaceSet


@dataclass(frozen=True)
class Beginning:
    """The network to begin with, and its teachers if any.

    Attributes:
        seen: the faces that beginning and teachers are known to have learnt from: the first digits of their hashes.
        lineage: the SHA-256s of the files.
    """

    network: nn.Module
    teachers: Teachers | None
    seen: frozenset[str]
    lineage: dict[str, str]


def contract_to_learn(model: str, classes: Sequence[str], size: int | None, init: Path | None) -> Contract:
    """The contract of a run: faces of ``size`` pixels a side; None: those of ``init``, or the network's own."""
    found = load_weights(init).contract if size is None and init is not None else None
    return default_contract(model, classes, size if found is None else found.height)


def begin(contract: Contract, init: Path | None, teachers: Sequence[Path], temperature: float) -> Beginning:
    """Open the weights ``init`` (None: fresh ones) and the ``teachers``.

    Raises:
        EdgeferError: they are another network's, or of other classes or normalisation; the network cannot take faces of
            the contract's size.
    """
    lineage, seen = {}, frozenset[str]()
    if init is None:
        network = create(contract.architecture, len(contract.labels))
    else:
        network, found, weights = load_network(init, contract.architecture, contract.labels)
        if found.normalisation != contract.normalisation:
            raise EdgeferError(
                f"{init} was trained with another normalisation: {found.normalisation}",
                hint=f"begin with weights of this network's own: {contract.normalisation}",
            )
        lineage["init_sha256"], seen = weights.sha256, weights.seen
    _require_size(network, contract)
    taught_by, hashes, taught = open_teachers(teachers, contract, temperature)
    if hashes:
        lineage["teachers_sha256"] = ",".join(hashes)
    return Beginning(network, taught_by, seen | taught, lineage)


def _require_size(network: nn.Module, contract: Contract) -> None:
    """Ask the network about faces: fully connected layers and padded pools take few sizes, and small faces shrink away.

    Raises:
        EdgeferError: it cannot take faces of the contract's size.
    """
    own = architecture(contract.architecture)
    if contract.face_shape == (own.height, own.width, own.channels):
        return
    try:
        probe(network.eval(), contract)
    except EdgeferError as fault:
        hint = f"its own size is {own.height}×{own.width}; what ends in a global mean takes multiples of 16, and more"
        raise EdgeferError(fault.message, hint=hint) from fault


def tell_of_seen(seen: frozenset[str], val: FaceSet) -> None:
    """Say so if faces that choose the best epoch are ones that it was begun with or taught by."""
    count = sum(face[:SEEN_DIGITS] in seen for face in val.face_hashes()) if seen else 0
    if count:
        announce(
            f"note: --init or a --teacher learnt from {count:,} of the {len(val):,} val faces: they flatter what is "
            "chosen and printed; use weights that were trained on this data's fit faces"
        )
