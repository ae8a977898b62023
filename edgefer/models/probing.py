"""What a network in Python code tells of its contract: it is run on inputs of several sizes, without computing.

Shapes are propagated on PyTorch's meta device, so that hundreds of sizes cost a second; a network that this does not
work with is really run, at the usual sizes alone.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgefer.contract import Contract, Normalisation
from edgefer.contract_file import contract_text, render_contract
from edgefer.data.classes import FER2013, FERPLUS
from edgefer.errors import EdgeferError
from edgefer.models.factory import build_from_factory
from edgefer.models.weights import load_weights

USUAL_SIZES = (48, 224, 112, 64, 96, 100, 128, 160, 192, 256, 260, 288, 299, 300, 40, 44)
"""Pixels per side of faces that published networks take."""

_ALL_SIZES = range(16, 321)
_AROUND = 32
_SOME_CLASSES = 7
_NORM_KEYS = ("normalisation.scale", "normalisation.mean", "normalisation.std")


@dataclass(frozen=True)
class Told:
    """A contract as far as a network tells it.

    Attributes:
        text: the contract in TOML, with what is missing left empty and explained.
        known: what was found, in words.
        missing: what is left to fill in, in words; empty where the weights carry a contract.
    """

    text: str
    known: tuple[str, ...]
    missing: tuple[str, ...]


def probe(spec: str, weights: str | os.PathLike[str] | None = None) -> Told:
    """Find the number of classes, the channels and the size of the faces that a network takes, where they are fixed.

    Args:
        spec: ``package.module:factory``, see :func:`~edgefer.models.factory.build_from_factory`.
        weights: its state dict, or a weights file that carries a contract, which is then returned.

    Raises:
        EdgeferError: the factory or the weights are refused, or no input makes the network return class scores.
    """
    loaded = None if weights is None else load_weights(weights)
    if loaded is not None and loaded.contract is not None:
        text = render_contract(loaded.contract, [f"Read from {os.fspath(weights or '')}, which carries it."])
        return Told(text, (f"all of it: {weights} carries a contract",), ())
    network, count = _built(spec, weights, () if loaded is None else list(loaded.state.values()))
    found = {channels: _sizes(network, channels, count) for channels in (1, 3)}
    fitting = [channels for channels, sizes in found.items() if sizes]
    if not fitting:
        raise EdgeferError(
            f"{spec} returns class scores for no input of 1 or 3 channels from {min(_ALL_SIZES)} to "
            f"{max(_ALL_SIZES)} pixels",
            hint="it must take float N×C×H×W and return logits N×classes: run it in Python; or fill in the template of "
            "`edgefer contract new`",
        )
    channels = fitting[0] if len(fitting) == 1 else 0
    return _told(spec, channels, found[fitting[0]], count)


def _built(
    spec: str, weights: str | os.PathLike[str] | None, tensors: Sequence[Tensor]
) -> tuple[nn.Module, int | None]:
    """The network, and its number of classes where something says it."""
    if weights is None:
        counts = (_SOME_CLASSES, _SOME_CLASSES + 1)
        networks = [build_from_factory(spec, _anything(count), fresh=True)[0] for count in counts]
        columns = [_columns(network) for network in networks]
        return networks[0], columns[0] if columns[0] == columns[1] else None  # else: as many as are asked for
    ends = [int(tensor.shape[0]) for tensor in tensors[::-1][:8] if tensor.ndim and 2 <= tensor.shape[0] <= 64]
    fault: EdgeferError | None = None
    for count in dict.fromkeys([*ends, _SOME_CLASSES]):
        try:
            network = build_from_factory(spec, _anything(count), weights)[0]
        except EdgeferError as cause:
            fault = fault or cause
        else:
            return network, _columns(network)
    raise fault or EdgeferError(f"{weights} holds no tensors")


def _columns(network: nn.Module) -> int | None:
    """The number of scores for a face, where it is the same at all sizes at which it runs."""
    for sizes in (USUAL_SIZES, _ALL_SIZES):
        found = {shape[1] for channels in (1, 3) for _, shape in _runs(network, channels, sizes)}
        if found:
            return next(iter(found)) if len(found) == 1 else None
    return None


def _anything(classes: int) -> Contract:
    """A contract that only says how many classes there are."""
    labels = tuple(f"class {number}" for number in range(classes))
    return Contract(labels, 1, 1, 1, Normalisation(), "probed")


def _sizes(network: nn.Module, channels: int, count: int | None) -> list[int]:
    """Pixels per side, in ascending order, at which the network returns ``count`` scores a face.

    Of the usual sizes; if it takes one of them alone, of those around it, which a pool may round alike; if none, all.
    """

    def running(sizes: Iterable[int]) -> list[int]:
        return sorted(size for size, shape in _runs(network, channels, sizes) if count in (None, shape[1]))

    found = running(USUAL_SIZES)
    if len(found) == 1:
        return running(range(max(1, found[0] - _AROUND), found[0] + _AROUND + 1))
    return found or running(_ALL_SIZES)


def _runs(network: nn.Module, channels: int, sizes: Iterable[int]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The sizes at which a forward pass returns a row of scores for each of two faces, and the shape of the scores."""
    try:
        network, device = copy.deepcopy(network).to("meta"), "meta"
    except (RuntimeError, NotImplementedError, TypeError):
        device = "cpu"
    for size in sizes:
        shape = _shape(network, torch.empty(2, channels, size, size, device=device).zero_())
        if shape is not None and len(shape) == 2 and shape[0] == 2 and shape[1] >= 2:
            yield size, shape


def _shape(network: nn.Module, faces: Tensor) -> tuple[int, ...] | None:
    try:
        with torch.inference_mode():
            scores = network(faces)
    except Exception:  # whatever the user's network raises at an input that it does not take
        return None
    return tuple(scores.shape) if isinstance(scores, Tensor) else None


def _size_of(sizes: Sequence[int]) -> tuple[int, str]:
    """The size that the network is for, else 0; and in words with which sizes it runs."""
    usual = [size for size in sorted(USUAL_SIZES) if size in sizes]
    in_a_row = list(sizes) == list(range(sizes[0], sizes[-1] + 1))
    if len(sizes) == 1:
        return sizes[0], f"faces of {sizes[0]}×{sizes[0]} pixels"
    if in_a_row and len(usual) == 1:
        only = usual[0]
        return only, f"faces of {only}×{only} pixels (the usual size among {sizes[0]} to {sizes[-1]}, which run)"
    if usual and usual == [size for size in sorted(USUAL_SIZES) if size >= usual[0]]:
        return 0, f"it runs with any size: {usual[0]} to {usual[-1]} pixels were tried"
    if in_a_row:
        return 0, f"it runs with {sizes[0]} to {sizes[-1]} pixels"
    return 0, f"it runs with several sizes: {', '.join(map(str, sizes[:4]))}" + (", …" if len(sizes) > 4 else "")


def _told(spec: str, channels: int, sizes: Sequence[int], count: int | None) -> Told:
    known, missing = [], []
    size, words = _size_of(sizes)
    if size:
        known.append(words)
    else:
        missing.append(f"input.height and input.width ({words}: give that of training)")
    if channels:
        known.append("1 channel (grey)" if channels == 1 else "3 channels (RGB)")
    else:
        missing.append("input.channels (it runs with 1 and with 3)")
    names = f"{count} names" if count else "the names"
    if count:
        known.append(f"{count} classes")
    orders = {7: f"FER2013's order is {' '.join(FER2013)}", 8: f"FER+'s order is {' '.join(FERPLUS)}"}
    hint = f"; {orders[count]}, folders are usually numbered alphabetically" if count in orders else ""
    missing.append(f"labels ({names}, in the order of the outputs{hint})")
    missing.append(f"{', '.join(_NORM_KEYS)} (as pixels were scaled in training)")
    notes = [f"Read from {spec}: {', '.join(known) or 'nothing'}.", *(f"Missing: {what}." for what in missing)]
    name = spec.rpartition(":")[2].rpartition(".")[2]
    return Told(
        contract_text(architecture=name, size=(size, size, channels), notes=notes), tuple(known), tuple(missing)
    )
