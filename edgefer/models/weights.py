"""Weights files: safetensors with the contract in their metadata, and the .pth files that others publish."""

from __future__ import annotations

import json
import os
import pickle
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgefer.atomic import sha256_file, write_bytes
from edgefer.contract import METADATA_KEY, Contract
from edgefer.errors import EdgeferError, require
from edgefer.intake import reading
from edgefer.models import create
from edgefer.models.registry import architecture, default_contract, names
from edgefer.provenance import packed, unpacked

if TYPE_CHECKING:
    from torch import Tensor, nn


_LISTED = 6
COUNTER = ".num_batches_tracked"
"""Suffix of the names of batch norms' counters, which only a norm without momentum reads."""


@dataclass(frozen=True)
class Fit:
    """Comparison of a file's tensors with a network's.

    Attributes:
        missing, extra: names that only the network has, and that only the file has.
        misshapen: names with both shapes, ready to be printed.
        misshapen_names: the same names alone.
        unused: names in the file that the network has and no forward pass uses.
    """

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    misshapen: tuple[str, ...]
    misshapen_names: tuple[str, ...]
    unused: tuple[str, ...]

    def faults(self, listed: int = _LISTED) -> str:
        """The tensors that do not fit, at most ``listed`` names per kind; empty if all fits."""
        kinds = (("missing", self.missing), ("unknown", self.extra), ("misshapen", self.misshapen))
        return "; ".join(f"{len(names)} {kind}: {listing(names, listed)}" for kind, names in kinds if names)


def compare(network: nn.Module, found: Mapping[str, Tensor], *, needless: bool = False) -> Fit:
    """Compare the tensors of a file with those of a network, which may be on the meta device.

    With ``needless``, tensors that no forward pass reads (known to be unused; counters of batches) may be missing or
    misshapen.
    """
    wanted = network.state_dict()
    patterns = tuple(getattr(network, "UNUSED", ()))
    unused = {name for name in wanted if any(re.fullmatch(pattern, name) for pattern in patterns)}
    free = {name for name in wanted if name in unused or name.endswith(COUNTER)} if needless else set()
    wrong = [n for n in wanted if n in found and n not in free and found[n].shape != wanted[n].shape]
    return Fit(
        missing=tuple(name for name in wanted if name not in found and name not in free),
        extra=tuple(name for name in found if name not in wanted),
        misshapen=tuple(f"{name} ({_shape(found[name])} instead of {_shape(wanted[name])})" for name in wrong),
        misshapen_names=tuple(wrong),
        unused=tuple(name for name in found if name in unused),
    )


def listing(names: Sequence[str], maximum: int = _LISTED) -> str:
    """Names with commas, cut after ``maximum``."""
    return ", ".join(names[:maximum]) + (f" and {len(names) - maximum} more" if len(names) > maximum else "")


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"


SHIPPED = Path(__file__).parent / "weights"
"""Where the weights lie that come with edgefer: NAME.safetensors."""

_TORCH_SUFFIXES = (".pth", ".pt")
_NESTED_UNDER = ("state_dict", "model_state_dict", "model")
MET_KEYS = {"trained": "edgefer.fit_faces", "chose": "edgefer.val_faces"}
"""How a network met faces, and the key of the file's metadata that has them."""
Met = Mapping[str, frozenset[str]]
"""How a network met faces, one of :data:`MET_KEYS` → the beginnings of their hashes (:mod:`edgefer.provenance`)."""
CHOSE_FILE = "chose.json"
"""The val faces of weights that ship and whose file does not tell them; README.md beside it says how it was made."""
_CARD_TITLE = re.compile(r"# (\S+), (.+)")
_CARD_ROW = re.compile(
    r"^\| public test \(chose nothing\) \| ([\d,]+) \| ([\d.]+) \| ([\d.]+)…([\d.]+) \|", re.MULTILINE
)
"""The title, and the row of the test part, of a model card as `benchmarks/model_card.py` writes it."""
CONVERSION = "torch.save(model.state_dict(), 'weights.pth')"


@dataclass(frozen=True)
class Weights:
    """A weights file: tensors by name, the contract if the file carries one, and the SHA-256 of its bytes.

    ``met`` are the faces that trained it and that chose among its epochs; without those that it does not tell.
    """

    state: dict[str, Tensor]
    contract: Contract | None
    sha256: str
    met: Met = field(default_factory=dict)

    @property
    def seen(self) -> frozenset[str]:
        """The faces that trained it, the beginnings of their hashes; empty if it does not say."""
        return self.met.get("trained", frozenset())


def shipped(name: str) -> Path | None:
    """The weights that come with edgefer under ``name``, or None.

    That is a network's name, or one with more behind a ``_`` for weights of other classes or another size of
    faces: ``cliquenet_ferplus``, ``mini_xception_64``.
    """
    path = SHIPPED / f"{name}.safetensors"
    return path if name == path.stem and path.is_file() else None


def shipped_for(network: str) -> tuple[str, ...]:
    """Names of the weights that come with edgefer for ``network``: under its own name first, then the others."""
    found = []
    for path in SHIPPED.glob("*.safetensors"):
        fitting = [name for name in names() if path.stem == name or path.stem.startswith(f"{name}_")]
        if fitting and max(fitting, key=len) == network:
            found.append(path.stem)
    return tuple(sorted(found))


def save_weights(
    path: str | os.PathLike[str],
    state: Mapping[str, Tensor],
    contract: Contract,
    met: Mapping[str, Iterable[str]] = MappingProxyType({}),
    *,
    fp16: bool = False,
) -> None:
    """Write tensors and contract as one safetensors file, whole or not at all.

    Args:
        path: the file.
        state: tensors by name.
        contract: the network's contract.
        met: how it met faces, one of :data:`MET_KEYS` → their ``face_hashes``: an evaluation can leave those out.
        fp16: keep the weights of convolutions and fully connected layers in FP16: a file of half the size. Networks
            compute with them in FP32. Biases and batch norms stay FP32: they are few, and variances can be tiny.

    Raises:
        EdgeferError: the suffix is not .safetensors, a weight is too large for FP16, or the file cannot be written.
    """
    target = Path(path)
    if target.suffix != ".safetensors":
        raise EdgeferError(
            f"weights are written as .safetensors, not as {target.name}",
            hint=f"-o {target.with_suffix('.safetensors')}",
        )
    save = require("safetensors.torch", "export", "writing weights").save
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
    if fp16:
        tensors = {name: _to_fp16(name, tensor) if tensor.ndim > 1 else tensor for name, tensor in tensors.items()}
    metadata = {**contract.to_metadata(), **{MET_KEYS[how]: packed(faces) for how, faces in met.items()}}
    write_bytes(target, _in_order(save(tensors, metadata=metadata)))


def _met(metadata: Mapping[str, str], sha256: str) -> Met:
    """What a file's metadata tell, and for weights that ship ``chose.json``; ValueError where that is damaged."""
    found = {how: frozenset(unpacked(metadata.get(key, ""))) for how, key in MET_KEYS.items()}
    if not found["chose"]:
        found["chose"] = _chose_shipped(sha256)
    return {how: faces for how, faces in found.items() if faces}


def _chose_shipped(sha256: str) -> frozenset[str]:
    file = SHIPPED / CHOSE_FILE
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"weights": {}}
    sets = content["weights"].get(sha256, ())
    return frozenset(face for name in sets for face in unpacked(content["faces"][name]))


def met_by_shipped(sha256: str) -> Met:
    """What the weights that ship and have this hash met, read without torch; empty if none has it.

    An engine says which weights it was built from, and nothing of their faces.
    """
    for file in sorted(SHIPPED.glob("*.safetensors")) if sha256 else ():
        if sha256 == sha256_file(file):
            with file.open("rb") as stream:
                header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
            return _met(header.get("__metadata__", {}), sha256)
    return {}


@dataclass(frozen=True)
class CardAccuracy:
    """What the model card of weights that ship says of a test part that trained nothing and chose nothing.

    Attributes:
        weights: name of the weights.
        data: data set that the faces are of.
        n: number of faces.
        top1_pct: accuracy of the weights, computed in FP32, percent.
        ci95_pct: Wilson's 95 % interval of it.
    """

    weights: str
    data: str
    n: int
    top1_pct: float
    ci95_pct: tuple[float, float]

    def sentence(self) -> str:
        """One line for a person."""
        low, high = self.ci95_pct
        return (
            f"{self.top1_pct:.1f} % [{low:.1f}, {high:.1f}] of {self.n:,} faces of {self.data}'s public test, which "
            f"chose nothing: {self.weights}'s model card, in FP32"
        )


def card_accuracy(sha256: str) -> CardAccuracy | None:
    """The accuracy of the weights that ship and have this hash; None where none has it."""
    for card in sorted(SHIPPED.glob("*.md")) if sha256 else ():
        text = card.read_text(encoding="utf-8")
        title, row = _CARD_TITLE.match(text), _CARD_ROW.search(text)
        if f"SHA-256 `{sha256}`" in text and title is not None and row is not None:
            n, top1, low, high = row.groups()
            return CardAccuracy(title[1], title[2], int(n.replace(",", "")), float(top1), (float(low), float(high)))
    return None


def _to_fp16(name: str, tensor: Tensor) -> Tensor:
    found = tensor.half()
    if not found.isfinite().all():
        raise EdgeferError(
            f"a weight of {name} is {float(tensor.abs().max()):.3g}, and FP16 ends at 65,504", hint="keep them in FP32"
        )
    return found


def _in_order(content: bytes) -> bytes:
    """The same safetensors file with its header's keys sorted: the library writes metadata in random order.

    The header is JSON after its length in 8 bytes, filled up with spaces so that tensors begin at a multiple of 8.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]


def load_weights(path: str | os.PathLike[str]) -> Weights:
    """Read a .safetensors, .pth or .pt file, or weights that ship by their name.

    A .pth may hold its tensors under ``state_dict`` or the like. Nothing in the file is executed. Names that all begin
    with ``module.`` (DataParallel) lose that prefix.

    Raises:
        EdgeferError: no such file, another suffix, damaged, a pickled module, or no tensors inside.
    """
    file = Path(path)
    if not file.is_file():
        file = shipped(os.fspath(path)) or file
    if not file.is_file():
        raise EdgeferError(f"there are no weights {file}", hint="check the path; `edgefer train` writes weights")
    met: Met = {}
    sha256, again = sha256_file(file), "copy or train them again"
    if file.suffix == ".safetensors":
        with reading(f"the weights {file}", again):
            state, contract, met = _read_safetensors(file, sha256)
    elif file.suffix in _TORCH_SUFFIXES:
        with reading(f"the weights {file}", again):
            state, contract = _tensors(_read_torch(file), file), None
    else:
        raise EdgeferError(
            f"{file} is not a weights file: its suffix is '{file.suffix}'",
            hint="use .safetensors, .pth or .pt; of Keras files (.hdf5, .h5, .whl with one), `edgefer import-weights` "
            "makes a .safetensors",
        )
    return Weights(state, contract, sha256, met)


def load_network(
    weights: str | os.PathLike[str], model: str | None = None, classes: Sequence[str] | None = None
) -> tuple[nn.Module, Contract, Weights]:
    """A network with the weights of a file, in evaluation mode; its contract; the weights.

    Args:
        weights: the file.
        model: the network's name; needed where the file carries no contract, checked where it does.
        classes: class names in the order of the logits; likewise.

    Raises:
        EdgeferError: the file is refused, is another network's than ``model``, or its tensors do not fit.
    """
    loaded = load_weights(weights)
    contract = _settle_contract(Path(weights), loaded.contract, model, classes)
    network = create(contract.architecture, len(contract.labels))
    _check_fit(Path(weights), network, loaded.state, contract)
    network.load_state_dict(loaded.state)
    return network.eval(), contract, loaded


def _read_safetensors(file: Path, sha256: str) -> tuple[dict[str, Tensor], Contract | None, Met]:
    safetensors = require("safetensors", "export", "reading weights")
    require("torch", "export", "reading weights")
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
        met = _met(metadata, sha256)
    except (safetensors.SafetensorError, OSError, ValueError) as cause:
        raise _damaged(file, cause) from cause
    if not state:
        raise EdgeferError(f"{file} holds no tensors", hint="give the file that training wrote")
    contract = Contract.from_metadata(metadata, str(file)) if METADATA_KEY in metadata else None
    return state, contract, met


def _read_torch(file: Path) -> Any:
    torch = require("torch", "export", "reading weights")
    with file.open("rb") as stream:
        beginning = stream.read(10)
    if beginning[8:] == b'{"':
        hint = f"rename it to {file.stem}.safetensors"
        raise EdgeferError(f"{file} is a safetensors file by another name", hint=hint)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the archive's kind; what matters is raised
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as cause:
        if "Unsupported" not in str(cause) and "GLOBAL" not in str(cause):
            raise _damaged(file, cause) from cause
        raise EdgeferError(
            f"{file} is a pickled module, not a state dict: reading it would run whatever code it names",
            hint=f"where its code is at hand and trusted, load it and write the tensors alone: {CONVERSION}",
        ) from cause
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as cause:
        raise _damaged(file, cause) from cause


def _tensors(content: Any, file: Path) -> dict[str, Tensor]:
    """Find the state dict in what a .pth holds."""
    import torch

    for key in _NESTED_UNDER:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise EdgeferError(
            f"{file} holds a {type(content).__name__}, not a state dict", hint=f"write it by {CONVERSION}"
        )
    others = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise EdgeferError(
            f"{file} is not a state dict: {listing(others)} {'is' if len(others) == 1 else 'are'} no tensor",
            hint=f"write the tensors alone by {CONVERSION}, or nest them under one of: {', '.join(_NESTED_UNDER)}",
        )
    prefix = "module." if all(str(name).startswith("module.") for name in content) else ""
    return {str(name)[len(prefix) :]: tensor for name, tensor in content.items()}


def _settle_contract(file: Path, found: Contract | None, model: str | None, classes: Sequence[str] | None) -> Contract:
    if found is None:
        if model is None or classes is None:
            lacking = "network" if model is None else "classes"
            raise EdgeferError(
                f"{file} does not say which {lacking} it is for: it carries no edgefer contract",
                hint=f"`edgefer import-weights {file} --model NAME --classes a,b,c -o w.safetensors` writes one that "
                "does; export also takes --model NAME with --labels a,b,c",
            )
        return default_contract(model, classes)
    if model is not None and model not in (found.architecture, architecture(found.architecture).variant_of):
        architecture(model)  # an unknown name is the first thing to say
        raise EdgeferError(
            f"{file} holds weights of '{found.architecture}', and '{model}' was asked for",
            hint=f"pass --model {found.architecture}, or that network's own weights",
        )
    if classes is not None and tuple(classes) != found.labels:
        raise EdgeferError(
            f"{file} is for the classes {', '.join(found.labels)}, and {', '.join(classes)} were asked for",
            hint="the order counts; leave the classes away: the file says them",
        )
    return found


def _check_fit(file: Path, network: nn.Module, found: Mapping[str, Tensor], contract: Contract) -> None:
    faults = compare(network, found).faults()
    if faults:
        raise EdgeferError(
            f"{file} does not fit {contract.architecture} with {len(contract.labels)} classes: {faults}",
            hint="name the network that was trained, with its number of classes: see `edgefer models`",
        )


def _damaged(file: Path, cause: Exception) -> EdgeferError:
    reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
    return EdgeferError(
        f"{file} cannot be read as weights: {reason}", hint="it is damaged or cut short: copy it again, or train again"
    )
