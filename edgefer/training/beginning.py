"""The start of a run: fresh weights, or those of a file; and the teachers it learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from edgefer.contract import Contract
from edgefer.errors import EdgeferError
from edgefer.models import architecture, create, default_contract
from edgefer.models.factory import build_from_factory, try_network
from edgefer.models.vgg import WITH_NORMS, without_norms
from edgefer.models.weights import Weights, load_network, load_weights
from edgefer.progress import announce
from edgefer.provenance import SEEN_DIGITS
from edgefer.training.losses import Teachers, open_teachers
from edgefer.training.teacher_logits import SUFFIX, TeacherLogits, load_teacher_logits

if TYPE_CHECKING:
    from edgefer.data import FaceSet


@dataclass(frozen=True)
class Beginning:
    """The network to begin with, and its teachers if any, or their logits.

    Attributes:
        seen: the faces that beginning and teachers are known to have learnt from: the first digits of their hashes.
        chose: the faces that chose the beginning's epoch, likewise.
        lineage: the SHA-256s of the files.
    """

    network: nn.Module
    teachers: Teachers | TeacherLogits | None
    seen: frozenset[str]
    chose: frozenset[str]
    lineage: dict[str, str]


@dataclass(frozen=True)
class OwnNetwork:
    """A network of one's own: ``package.module:factory``, see :func:`~edgefer.models.factory.build_from_factory`."""

    factory: str
    contract: Contract


FACTORY = "factory"
"""The key of a contract's lineage that names the factory of a network of one's own."""


def own_contract(model: OwnNetwork, size: int | None) -> Contract:
    """The contract of a run with a network of one's own, which names its factory in the lineage."""
    contract = model.contract if size is None else replace(model.contract, height=size, width=size)
    return replace(contract, lineage={**contract.lineage, FACTORY: model.factory})


def refuse_other_classes(faces: FaceSet, contract: Contract) -> None:
    """Refuse faces of other classes than the contract's.

    Raises:
        EdgeferError: they are others, or in another order.
    """
    if faces.classes != contract.labels:
        raise EdgeferError(
            f"{faces.origin} has the classes {', '.join(faces.classes)}, and the contract of {contract.architecture} "
            f"{', '.join(contract.labels)}",
            hint="--map OLD=NEW renames classes of the data, and OLD= leaves one out",
        )


def contract_to_learn(model: str, classes: Sequence[str], size: int | None, init: Path | None) -> Contract:
    """The contract of a run: faces of ``size`` pixels a side; None: those of ``init``, or the network's own.

    How cameras crop is also taken from ``init``.

    Raises:
        EdgeferError: no such network or file; the faces of ``init`` are not square.
    """
    found = None if init is None else load_weights(init).contract
    if found is None:
        return default_contract(model, classes, size)
    if size is None and found.height != found.width:
        raise EdgeferError(
            f"{init} takes faces of {found.height}×{found.width} pixels, and training makes square ones",
            hint=f"--size {max(found.height, found.width)}",
        )
    contract = replace(default_contract(model, classes, size or found.height), crop_margin=found.crop_margin)
    if size is None and found.height != architecture(model).size:
        announce(f"faces are {found.height}×{found.height} pixels, as {init} takes them; --size would change that")
    return contract


def begin(contract: Contract, init: Path | None, teachers: Sequence[Path], temperature: float) -> Beginning:
    """Open the weights ``init`` (None: fresh ones) and the ``teachers``: weights, or one file of logits.

    A network without batch norms may begin with the weights of its twin that has them: they are folded.

    Raises:
        EdgeferError: they are another network's, or of other classes or normalisation; logits beside another teacher;
            the network cannot take faces of the contract's size.
    """
    lineage, seen, chose = {}, frozenset[str](), frozenset[str]()
    factory = contract.lineage.get(FACTORY)
    if factory is not None:
        network, _ = build_from_factory(factory, contract, init, fresh=init is None)
        lineage[FACTORY] = factory
        if init is not None:
            given = load_weights(init)
            lineage["init_sha256"], seen, chose = given.sha256, given.seen, given.met.get("chose", chose)
    elif init is None:
        network = create(contract.architecture, len(contract.labels))
    else:
        network, found, weights = _open(init, contract)
        if found.normalisation != contract.normalisation:
            raise EdgeferError(
                f"{init} was trained with another normalisation: {found.normalisation}",
                hint=f"begin with weights of this network's own: {contract.normalisation}",
            )
        lineage["init_sha256"], seen = weights.sha256, weights.seen
        chose = weights.met.get("chose", chose)
    _require_size(network, contract)
    kept = next((file for file in map(Path, teachers) if file.suffix == SUFFIX), None)
    if kept is not None:
        if len(teachers) > 1:
            raise EdgeferError(
                f"{kept} holds the logits of one teacher, and {len(teachers) - 1} more were given",
                hint="learn from one file of logits, or from any number of weights files",
            )
        logits = load_teacher_logits(kept, contract.labels)
        return Beginning(network, logits, seen | logits.seen, chose, {**lineage, "teachers_sha256": logits.sha256})
    taught_by, hashes, taught = open_teachers(teachers, contract, temperature)
    if hashes:
        lineage["teachers_sha256"] = ",".join(hashes)
    return Beginning(network, taught_by, seen | taught, chose, lineage)


def _open(init: Path, contract: Contract) -> tuple[nn.Module, Contract, Weights]:
    """The network of the contract with the weights ``init``: its own, or those of its twin with batch norms."""
    name, twin = contract.architecture, WITH_NORMS.get(contract.architecture)
    found = load_weights(init).contract
    held = name if found is None else found.architecture
    if held not in (name, twin):
        raise EdgeferError(
            f"{init} holds weights of '{held}', and '{name}' is to learn",
            hint=f"--model {held}, or weights of {name}",
        )
    network, made_for, weights = load_network(init, held, contract.labels)
    if held == name:
        return network, made_for, weights
    announce(f"{init}: the batch norms of {held} are folded into the convolutions of {name}")
    return without_norms(network, name, len(contract.labels)), made_for, weights


def _require_size(network: nn.Module, contract: Contract) -> None:
    """Ask the network about faces: fully connected layers and padded pools take few sizes, and small faces shrink away.

    Raises:
        EdgeferError: it cannot take faces of the contract's size.
    """
    if FACTORY in contract.lineage:
        try_network(network.eval(), contract)
        return
    own = architecture(contract.architecture)
    if contract.face_shape == (own.size, own.size, own.channels):
        return
    try:
        try_network(network.eval(), contract)
    except EdgeferError as fault:
        hint = f"its own size is {own.size}×{own.size}; networks that end in a global mean take multiples of 16 too"
        raise EdgeferError(fault.message, hint=hint) from fault


def tell_of_seen(seen: frozenset[str], val: FaceSet) -> None:
    """Say so if faces that choose the best epoch are ones that it was begun with or taught by."""
    count = sum(face[:SEEN_DIGITS] in seen for face in val.face_hashes()) if seen else 0
    if count:
        announce(
            f"note: --init or a --teacher learnt from {count:,} of the {len(val):,} val faces: they flatter what is "
            "chosen and printed; use weights that were trained on this data's fit faces"
        )
