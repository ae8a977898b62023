"""A network of the user's own, by the place of its factory (``package.module:factory``), and its first forward pass.

A network is run once before anything is made of it, and what it does wrong is said in one sentence.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from edgefer.contract import Contract
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces
from edgefer.models.deployable import Deployable
from edgefer.models.weights import compare, load_weights
from edgefer.progress import announce

if TYPE_CHECKING:
    from torch import nn


_TO_PYTHON = ("__bool__", "__int__", "__float__", "__index__", "item", "tolist")
_FACES = 2
_NOT_THEIRS = (str(Path(torch.__file__).parent), str(Path(__file__).parent))


def error_of_network(what: str, cause: BaseException) -> EdgeferError:
    """The error for ``what`` (somebody's own code) having raised ``cause``: its kind, first line and place."""
    every = traceback.extract_tb(cause.__traceback__)
    frames = [frame for frame in every if not frame.filename.startswith(_NOT_THEIRS)] or every
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    text = str(cause).strip().splitlines()
    reason = f"{type(cause).__name__}: {text[0]}" if text else type(cause).__name__
    return EdgeferError(f"{what} raised {reason}{where}", hint="that is the network's own code: make it run in Python")


def refuse_lazy(network: nn.Module, what: str) -> None:
    """Refuse modules that wait for their first input to know their shapes.

    Raises:
        EdgeferError: there is one; it is named.
    """
    for name, module in network.named_modules():
        tensors = (*module.parameters(recurse=False), *module.buffers(recurse=False))
        if any(is_lazy(tensor) for tensor in tensors):
            raise EdgeferError(
                f"{what} has a {type(module).__name__} ('{name}'), whose shape is not known before its first input",
                hint="run the network once in the factory, network(torch.zeros(1, channels, height, width)), or give "
                "it its number of channels",
            )


def try_network(network: nn.Module, contract: Contract) -> None:
    """One forward pass, so that what is wrong with a network is not reported as a failed export.

    Raises:
        EdgeferError: the forward pass raises; it branches on what is in its tensors; it returns something else than
            logits N×labels, or probabilities.
    """
    name = contract.architecture
    refuse_lazy(network, name)
    faces = torch.from_numpy(golden_faces(contract, _FACES))
    watch = _Watch(network)
    try:
        with torch.inference_mode(), watch:
            logits = Deployable(network, replace(contract, test_time_flip=False))(
                faces
            )  # what the network itself returns
    except NotImplementedError as cause:  # a RuntimeError that no other size would mend
        raise error_of_network(f"the forward pass of {name}", cause) from cause
    except (RuntimeError, ValueError) as cause:
        raise EdgeferError(
            f"{name} cannot take faces of {'×'.join(map(str, contract.face_shape))} (height×width×channels): "
            f"{(str(cause).strip().splitlines() or [type(cause).__name__])[0]}",
            hint="make the contract's height, width and channels those that the network was trained with",
        ) from cause
    except (Exception, SystemExit) as cause:  # whatever the user's network does
        raise error_of_network(f"the forward pass of {name}", cause) from cause
    if watch.branch:
        raise EdgeferError(
            f"the forward pass of {name} makes a Python value of a tensor ({watch.branch}): a graph would keep what "
            "came of one face for all faces",
            hint="write it without `if`, `while`, bool(), int(), float() and .item() on tensors, e.g. by torch.where",
        )
    _check_logits(logits, contract)


def _check_logits(logits: object, contract: Contract) -> None:
    name, wanted = contract.architecture, (_FACES, len(contract.labels))
    if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise EdgeferError(
            f"{name} returns {found} for two faces; the contract has {len(contract.labels)} labels",
            hint="the network must return one tensor of logits, N×labels; give the contract as many labels",
        )
    if logits.dtype != torch.float32:
        raise EdgeferError(
            f"{name} returns {str(logits.dtype).removeprefix('torch.')}, not float32",
            hint="export the network in float32: network.float(); `edgefer build-engine` makes it small again",
        )
    sums = logits.double().sum(dim=1)
    if bool((logits >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all()):
        raise EdgeferError(
            f"{name} returns probabilities: no value is under 0, and each face's add up to 1",
            hint="return the logits: leave out the softmax at the end, which comes after the engine",
        )


class _Watch(TorchFunctionMode):
    """Sees where a forward pass makes a Python value of a tensor; the network's own parameters and buffers may be."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._own = {id(tensor) for tensor in (*network.parameters(), *network.buffers())}
        self.branch = ""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        called = getattr(func, "__name__", "")
        if called in _TO_PYTHON and not self.branch and id(args[0]) not in self._own:
            place = next((f for f in reversed(traceback.extract_stack()) if f.filename != __file__), None)
            self.branch = f"{called} at {place.filename}:{place.lineno}" if place else called
        return func(*args, **(kwargs or {}))


_FORM = "--module package.module:factory, e.g. --module train.nets:build"


def build_from_factory(
    spec: str, contract: Contract, weights: str | os.PathLike[str] | None = None, *, fresh: bool = False
) -> tuple[nn.Module, Contract]:
    """Import the factory, call it and load the weights.

    Args:
        spec: ``package.module:name``; the current directory is importable. ``name`` is a module, or a class or function
            that returns one and takes nothing, or the number of classes (as ``num_classes`` or as its one argument).
        contract: the contract of the network's input and output.
        weights: a state dict (.safetensors, .pth, .pt); without it the network keeps those that its factory gave it,
            and that is announced.
        fresh: it is known that the weights are the factory's, as where training begins: nothing is announced.

    Returns:
        The network in evaluation mode; the contract with the factory, and the hash of the weights file, in its lineage.

    Raises:
        EdgeferError: the module or name cannot be imported, the factory raises or returns something else, the weights
            cannot be read, do not fit, or are for other labels.
    """
    with _importable_here(), redirect_stdout(sys.stderr):  # what a factory prints is no result
        factory = _found(spec)
        made = factory if isinstance(factory, nn.Module) else _called(factory, spec, len(contract.labels))
    if not isinstance(made, nn.Module):
        raise EdgeferError(
            f"{spec} returned a {type(made).__name__}, not a torch.nn.Module",
            hint="it must return the network itself: normalised float N×C×H×W in, logits N×classes out",
        )
    if isinstance(made, nn.DataParallel | nn.parallel.DistributedDataParallel):
        announce(f"note: {spec} returned a {type(made).__name__}: the network inside it is taken")
        made = made.module
    network: nn.Module = made
    refuse_lazy(network, spec)
    contract = replace(contract, lineage={**contract.lineage, "factory": spec})
    if weights is None:
        if not fresh:
            announce(f"note: no weights file was given: {spec} has the weights that its factory gave it")
        return network.eval(), contract
    return network.eval(), _loaded(network, Path(weights), contract, spec)


@contextmanager
def _importable_here() -> Iterator[None]:
    """Let the current directory be imported from, as ``python -m`` does."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)


def _found(spec: str) -> Any:
    place, colon, name = spec.partition(":")
    if not colon or not place or not name:
        raise EdgeferError(f"'{spec}' does not name a factory", hint=_FORM)
    if place.endswith(".py"):
        module = ".".join(Path(place).with_suffix("").parts)
        raise EdgeferError(
            f"'{place}' is a file, and a module is named by its import", hint=f"--module {module}:{name}"
        )
    found: Any = _imported(place, spec)
    for part in name.split("."):
        if not hasattr(found, part):
            close = difflib.get_close_matches(part, [n for n in dir(found) if not n.startswith("_")], n=1)
            raise EdgeferError(
                f"{place} has no '{part}'", hint=f"did you mean '{place}:{close[0]}'?" if close else _FORM
            )
        found = getattr(found, part)
    return found


def _imported(place: str, spec: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as cause:
        if cause.name is not None and (place == cause.name or place.startswith(f"{cause.name}.")):
            raise EdgeferError(
                f"there is no Python module '{cause.name}' to take {spec} from",
                hint=f"run it in the folder that has {cause.name.split('.')[0]}, or put that folder on PYTHONPATH",
            ) from cause
        raise error_of_network(f"importing {place}", cause) from cause
    except (Exception, SystemExit) as cause:  # whatever the user's module does when it is imported
        raise error_of_network(f"importing {place}", cause) from cause


def _called(factory: Any, spec: str, classes: int) -> Any:
    if not callable(factory):
        raise EdgeferError(
            f"{spec} is a {type(factory).__name__}, neither a torch.nn.Module nor something that makes one", hint=_FORM
        )
    arguments, named = _arguments(factory, spec, classes)
    try:
        return factory(*arguments, **named)
    except (Exception, SystemExit) as cause:  # whatever the user's factory does
        shown = ", ".join([*map(str, arguments), *(f"{key}={value}" for key, value in named.items())])
        raise error_of_network(f"{spec}({shown})", cause) from cause


def _arguments(factory: Callable[..., Any], spec: str, classes: int) -> tuple[list[int], dict[str, int]]:
    """Arguments of the factory: none, or the number of classes."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return [], {}
    if any(p.name == "num_classes" and p.kind is not p.POSITIONAL_ONLY for p in parameters):
        return [], {"num_classes": classes}
    needed = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(needed) > 1 or any(p.kind is p.KEYWORD_ONLY for p in needed):
        raise EdgeferError(
            f"{spec} needs the arguments {', '.join(p.name for p in needed)}; a factory takes none, or num_classes",
            hint="write a function around it: `def build(num_classes): return Network(num_classes, width=64)`",
        )
    return [classes] * len(needed), {}


def _loaded(network: nn.Module, file: Path, contract: Contract, spec: str) -> Contract:
    """Load the weights into ``network``; give the contract that says so."""
    weights = load_weights(file)
    if weights.contract is not None and weights.contract.labels != contract.labels:
        raise EdgeferError(
            f"{file} is for the classes {', '.join(weights.contract.labels)}, and the contract says "
            f"{', '.join(contract.labels)}",
            hint="the order counts: `edgefer contract guess` prints the contract that the weights carry",
        )
    if weights.contract is not None and weights.contract.test_time_flip != contract.test_time_flip:
        said = [f"test_time_flip = {str(one.test_time_flip).lower()}" for one in (weights.contract, contract)]
        raise EdgeferError(f"{file} says {said[0]}, and the contract {said[1]}", hint=f"{said[0]} in the contract")
    faults = compare(network, weights.state, needless=True).faults()
    if faults:
        raise EdgeferError(
            f"{file} does not fit {spec}: {faults}", hint="give the weights of this network, with its number of classes"
        )
    own = network.state_dict()
    fitting = {name: tensor for name, tensor in weights.state.items() if tensor.shape == own[name].shape}
    network.load_state_dict(fitting, strict=False)  # all but what no forward pass reads is there
    origin = {"weights_sha256": weights.sha256, "weights_file": file.name}
    return replace(contract, lineage={**contract.lineage, **origin})
