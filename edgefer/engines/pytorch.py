"""PyTorch in eager mode on the CPU: the baseline that everything else is compared with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from edgefer.contract import INPUT_NAME, OUTPUT_NAME, Contract
from edgefer.engines.session import TensorSpec
from edgefer.errors import EdgeferError
from edgefer.models.deployable import Deployable
from edgefer.models.factory import build_from_factory, try_network
from edgefer.models.registry import names
from edgefer.models.weights import Met, load_network, load_weights
from edgefer.runtimes import PYTORCH


def open_network(
    network: str, weights: str | os.PathLike[str] | None, contract: Contract | None, assumed: Contract | None
) -> tuple[nn.Module, Contract, Met]:
    """A network with its weights, in evaluation mode; its contract; the faces that it met, as far as is known.

    Args:
        network: a weights file; a network's name, or any name, with ``weights``; or ``package.module:factory``.
        weights: the weights file of a named network or of a factory's.
        contract: the contract of a factory's network or of a bare state dict.
        assumed: the contract where neither that is given nor the weights carry one.

    Raises:
        EdgeferError: what cannot be loaded, or is for other classes; nothing says what the network takes.
    """
    file = Path(network if weights is None else weights)
    if ":" in network and (weights is not None or not file.is_file()):
        loaded = None if weights is None else load_weights(file)
        known = contract or (None if loaded is None else loaded.contract) or assumed
        if known is None:
            raise EdgeferError(f"nothing says what {network} takes and returns", hint="--contract contract.toml")
        made, known = build_from_factory(network, known, weights)
        try_network(made, known)
        return made, known, {} if loaded is None else loaded.met
    known, model = contract or assumed, network if network in names() else None
    if known is None or load_weights(file).contract is not None:
        made, known, loaded = load_network(file, model)
        return made, known, loaded.met
    if (model or known.architecture) not in names():
        factory = known.lineage.get("factory", "nets:Net")
        raise EdgeferError(
            f"{file} holds tensors alone, and '{known.architecture}' is no network of the zoo to put them into",
            hint=f"name your own network: --baseline {factory} --weights {file}",
        )
    made, _, loaded = load_network(file, model or known.architecture, known.labels)
    return made, known, loaded.met


class TorchSession:
    """A :class:`~edgefer.engines.session.Session` over a module, with the contract's normalisation in front of it.

    Args:
        network: normalised float N×C×H×W → logits; put in evaluation mode.
        contract: the contract of its input and output.
        threads: inside one operator. PyTorch has one such number a process: a run that finds another sets it.
    """

    name = PYTORCH.name

    def __init__(self, network: nn.Module, contract: Contract, threads: int = 1) -> None:
        if threads < 1:
            raise EdgeferError(f"threads is 1 or more, not {threads}", hint="--threads 1")
        self.version = str(torch.__version__)
        self.threads = threads
        self._module: nn.Module | None = Deployable(network, contract).eval()
        self.inputs: tuple[TensorSpec, ...] = (TensorSpec(INPUT_NAME, "uint8", (None, *contract.face_shape)),)
        self.outputs: tuple[TensorSpec, ...] = (TensorSpec(OUTPUT_NAME, "float32", (None, len(contract.labels))),)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs by name.

        Raises:
            EdgeferError: the session was closed.
        """
        if self._module is None:
            raise EdgeferError("a PyTorch session was used after it was closed", hint="load the network again")
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        faces = feeds[INPUT_NAME]
        if not faces.flags.writeable or any(stride < 0 for stride in faces.strides):
            faces = faces.copy()  # from_numpy takes neither in silence
        with torch.inference_mode():
            logits = self._module(torch.from_numpy(faces))
        return {OUTPUT_NAME: logits.numpy()}

    def close(self) -> None:
        """Let go of the network."""
        self._module = None
