"""A network is run once before anything is made of it, and what it does wrong is said in one sentence."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from edgefer.contract import Contract
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces
from edgefer.models.deployable import Deployable

_TO_PYTHON = ("__bool__", "__int__", "__float__", "__index__", "item", "tolist")
_FACES = 2
_NOT_THEIRS = (str(Path(torch.__file__).parent), str(Path(__file__).parent))


def failed(what: str, cause: BaseException) -> EdgeferError:
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


def probe(network: nn.Module, contract: Contract) -> None:
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
            logits = Deployable(network, replace(contract, mirrored=False))(faces)  # what the network itself returns
    except NotImplementedError as cause:  # a RuntimeError that no other size would mend
        raise failed(f"the forward pass of {name}", cause) from cause
    except (RuntimeError, ValueError) as cause:
        raise EdgeferError(
            f"{name} cannot take faces of {'×'.join(map(str, contract.face_shape))} (height×width×channels): "
            f"{(str(cause).strip().splitlines() or [type(cause).__name__])[0]}",
            hint="make the contract's height, width and channels those that the network was trained with",
        ) from cause
    except (Exception, SystemExit) as cause:  # whatever the user's network does
        raise failed(f"the forward pass of {name}", cause) from cause
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
