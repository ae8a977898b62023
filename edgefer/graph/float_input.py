"""A network of any kind behind an input of float pixels, so that it can be given faces as another contract would.

The input is on the scale of uint8 pixels: what the contract normalises with ``y = a·x + b``. A network takes the faces
of another normalisation ``y = c·x + d`` as ``x' = (c·x + d − b) / a``, whatever file it is in.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgefer.contract import INPUT_NAME, METADATA_KEY, OUTPUT_NAME, Contract, named_normalisation
from edgefer.contract_file import Draft, read_draft
from edgefer.engines.load import load_engine
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.engines.session import Session
from edgefer.errors import EdgeferError, require
from edgefer.graph.adopt import foreign_session
from edgefer.graph.foreign import parse_foreign
from edgefer.graph.guess import HDF5, Guess, probable_contract
from edgefer.graph.onnx_file import metadata_of, read_onnx, serialise
from edgefer.manifest import PRECISION_KEY
from edgefer.models.keras import SUFFIXES, WHEEL
from edgefer.models.weights import load_network, shipped

ASSUMED = "0..1"
"""The normalisation that stands in where a contract says none: it is checked like any other."""


@dataclass(frozen=True)
class Suspect:
    """A network whose contract is doubted.

    Attributes:
        name: the file, the factory or the name that it was opened by.
        kind: ``"weights"``, ``"module"``, ``"foreign"`` or ``"model"`` (an ONNX file of edgefer's, or an engine).
        run: logits, N×classes, of faces, float32 N×H×W×C on the scale of uint8 pixels, or uint8 where ``floats`` is
            false.
        contract: what it is declared to be.
        assumed: keys of the contract that nothing says, and that were assumed.
        floats: whether it takes other pixels than whole ones from 0 to 255.
        parallel: whether ``run`` may be called by several threads at once; it uses one thread for each call then, and
            all cores else.
        notes: what limits what can be said about it, a sentence each.
        weights: the file of a module's weights, if any.
    """

    name: str
    kind: str
    run: Callable[[NDArray[Any]], NDArray[np.float32]]
    contract: Contract
    assumed: tuple[str, ...] = ()
    floats: bool = True
    parallel: bool = False
    notes: tuple[str, ...] = ()
    weights: str = ""


@dataclass(frozen=True)
class Place:
    """Where a network is, as a user says it.

    Attributes:
        model: weights, a foreign ONNX file, a model.onnx, an engine, or the name of weights that ship; or
            ``package.module:factory``.
        weights: with a factory: its state dict; its own weights if None.
        contract: a contract in TOML, which may have gaps, where the file carries none.
        threads: inside one operator of a network that one thread at a time may call.
    """

    model: str | os.PathLike[str]
    weights: str | os.PathLike[str] | None = None
    contract: str | os.PathLike[str] | None = None
    threads: int = 1


def open_suspect(place: Place, classes: Sequence[str]) -> Suspect:
    """Open a network; what its contract does not say is assumed: classes as the data have them, pixels from 0 to 1.

    Args:
        place: where it is.
        classes: the classes of the faces.

    Raises:
        EdgeferError: there is no such network, it cannot be read, it carries a contract and another was given, or
            nothing says the size of its faces.
    """
    text = os.fspath(place.model)
    if place.weights is not None or (":" in text and not Path(text).exists()):
        return _of_module(place, text, classes)
    file = shipped(text) or Path(text)
    if not file.is_file():
        raise EdgeferError(
            f"there is no network {text}",
            hint="give weights, an ONNX file, an engine, or --module PKG.MOD:FACTORY",
        )
    if file.suffix == ".onnx":
        metadata = metadata_of(read_onnx(file))
        if METADATA_KEY in metadata:
            _refuse_second(place, text)
            return _of_model(place, file, metadata)
        return _of_foreign(place, file, classes)
    if file.suffix in (".safetensors", ".pth", ".pt", *SUFFIXES, WHEEL):
        return _of_weights(place, file, text, classes)
    _refuse_second(place, text)
    classifier = load_engine(file, place.threads)
    note = (
        f"{file.suffix} takes whole pixels only: other normalisations are tried with the model.onnx it was built from"
    )
    return Suspect(text, "model", classifier.logits_of_all, classifier.contract, floats=False, notes=(note,))


def _refuse_second(place: Place, name: str) -> None:
    if place.contract is not None:
        raise EdgeferError(
            f"{name} carries a contract, and {place.contract} is another one",
            hint="leave --contract out: what the file carries is checked",
        )


def _settled(draft: Draft | Guess | Contract, classes: Sequence[str], name: str) -> tuple[Contract, tuple[str, ...]]:
    """The contract with its gaps filled by assumptions, and which ones were."""
    if isinstance(draft, Contract):
        return draft, ()
    guessed = () if isinstance(draft, Draft) else ("labels", "normalisation")
    draft = draft if isinstance(draft, Draft) else draft.draft()
    contract = draft.contract
    size = [key for key in draft.missing if key.startswith("input.")]
    if size:
        raise EdgeferError(
            f"nothing says {', '.join(size)} of {name}",
            hint="write a contract with the size of its faces (`edgefer contract new`) and give it: --contract FILE",
        )
    assumed = [key for key in ("labels", "normalisation") if key in guessed]
    if any(key.startswith("normalisation.") for key in draft.missing):
        contract = replace(contract, normalisation=named_normalisation(ASSUMED, contract.channels))
        assumed.append("normalisation")
    if "labels" in draft.missing:
        contract = replace(contract, labels=tuple(classes))
        assumed.append("labels")
    if "architecture" in draft.missing:
        contract = replace(contract, architecture=Path(name).stem.rpartition(":")[2])
    return contract, tuple(dict.fromkeys(assumed))


def _declared(place: Place, file: Path, classes: Sequence[str]) -> tuple[Contract, tuple[str, ...]]:
    """The contract that was given for a file without one, or the one that it probably needs."""
    given = probable_contract(file) if place.contract is None else read_draft(place.contract)
    return _settled(given, classes, str(file))


def _runner(session: Session) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    return lambda faces: np.asarray(session.run({INPUT_NAME: faces})[OUTPUT_NAME], dtype=np.float32)


def _of_module(place: Place, spec: str, classes: Sequence[str]) -> Suspect:
    require("torch", "export", "running a network in PyTorch")
    from edgefer.engines.pytorch import TorchSession
    from edgefer.models.factory import build_from_factory, try_network

    if place.contract is None:
        raise EdgeferError(
            f"{spec} is Python code, and nothing says what it takes and returns",
            hint=f"--contract FILE: `edgefer contract new --module {spec}` writes what the network tells; labels and "
            "normalisation may stay empty",
        )
    contract, assumed = _settled(read_draft(place.contract), classes, spec)
    network, contract = build_from_factory(spec, contract, place.weights)
    try_network(network, contract)
    weights = "" if place.weights is None else os.fspath(place.weights)
    runner = _runner(TorchSession(network, contract, place.threads))
    return Suspect(spec, "module", runner, contract, assumed, weights=weights)


def _of_weights(place: Place, file: Path, name: str, classes: Sequence[str]) -> Suspect:
    require("torch", "export", "running weights in PyTorch")
    from edgefer.engines.pytorch import TorchSession
    from edgefer.models.importing import import_weights

    with file.open("rb") as stream:
        carries = file.suffix == ".safetensors" and stream.read(len(HDF5)) != HDF5
    found = probable_contract(file) if carries or place.contract is None else None
    if isinstance(found, Contract):
        _refuse_second(place, name)
        network, contract, _ = load_network(file)
        return Suspect(name, "weights", _runner(TorchSession(network, contract)), contract, parallel=True)
    contract, assumed = _declared(place, file, classes)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.safetensors"
        import_weights(file, contract.architecture, copy, classes=contract.labels)
        network, own, _ = load_network(copy)
    contract = replace(contract, architecture=own.architecture)
    return Suspect(name, "weights", _runner(TorchSession(network, contract)), contract, assumed, parallel=True)


def _of_foreign(place: Place, file: Path, classes: Sequence[str]) -> Suspect:
    parse_foreign(file)
    contract, assumed = _declared(place, file, classes)
    return Suspect(str(file), "foreign", _runner(foreign_session(file, contract)), contract, assumed, parallel=True)


def _of_model(place: Place, file: Path, metadata: dict[str, str]) -> Suspect:
    model = read_onnx(file)
    for entry in model.graph.input:
        if entry.name == INPUT_NAME:  # its only reader is a Cast to float, which floats pass as they are
            entry.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    session = OnnxRuntimeSession(serialise(model))
    precision = metadata.get(PRECISION_KEY, "fp32")
    note = (
        f"the INT8 ranges of {file.name} were set with the declared contract, so that others look worse than they are: "
        "check the float model that it was built from too"
    )
    contract = Contract.from_metadata(metadata, str(file))
    notes = (note,) if "int8" in precision else ()
    return Suspect(str(file), "model", _runner(session), contract, parallel=True, notes=notes)
