"""PyTorch in eager mode on the CPU: the baseline that everything else is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from edgefer.contract import INPUT_NAME, OUTPUT_NAME, Contract
from edgefer.engines.session import TensorSpec
from edgefer.errors import EdgeferError
from edgefer.models.deployable import Deployable
from edgefer.runtimes import PYTORCH


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
