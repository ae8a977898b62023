"""PyTorch, on the CPU or on a GPU: the baseline that everything else is compared with."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefer.contract import INPUT_NAME, OUTPUT_NAME, Contract
from edgefer.engines.session import CallTiming, TensorSpec
from edgefer.errors import EdgeferError
from edgefer.limits import check_whole
from edgefer.models.deployable import Deployable
from edgefer.models.device import first_line, torch_device
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

    On a GPU a call is what it is in an engine: faces are copied into page-locked memory and from there to the GPU, the
    network computes, and logits are copied back; CUDA events between them time it.

    Args:
        network: normalised float N×C×H×W → logits; put in evaluation mode, and moved to the device.
        contract: the contract of its input and output.
        threads: inside one operator. PyTorch has one such number a process: a run that finds another sets it.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        form: how it runs, of :data:`~edgefer.engines.load.FORMS`; ``""``: eager, in FP32.

    Attributes:
        version: version of PyTorch; then the GPU and the form, which may make other answers.
        precision: precision of its arithmetic; ``tf32`` where PyTorch lets convolutions round to it, as by default.

    Raises:
        EdgeferError: the device cannot be used; the network cannot be compiled, or captured as a CUDA graph.
    """

    name = PYTORCH.name

    def __init__(
        self, network: nn.Module, contract: Contract, threads: int = 1, device: str = "cpu", form: str = ""
    ) -> None:
        check_whole("--threads", threads, "threads")
        self.threads = threads
        self._network, self._contract = network, contract
        self._device = torch_device(device)
        self._parts = frozenset(form.split("+") if form else ())
        self.gpu = self._device.index
        where = () if self.gpu is None else (str(self._device),)
        self.version = ", ".join([str(torch.__version__), *where, *([form] if form else [])])
        self.timing: CallTiming | None = None
        self.precision = "fp16" if "fp16" in self._parts else "tf32" if _rounds_to_tf32(self._device) else "fp32"
        self.inputs: tuple[TensorSpec, ...] = (TensorSpec(INPUT_NAME, "uint8", (None, *contract.face_shape)),)
        self.outputs: tuple[TensorSpec, ...] = (TensorSpec(OUTPUT_NAME, "float32", (None, len(contract.labels))),)
        module = Deployable(network, contract).eval().to(self._device)
        if "channels-last" in self._parts:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        self._module: Callable[[Tensor], Tensor] | None = module
        if "compile" in self._parts:
            self._module = torch.compile(module, dynamic=False)  # sizes of batches are few: each is compiled for itself
        self._staged: _StagedCalls | None = None
        if self.gpu is not None:
            self._staged = _StagedCalls(self._answer, self._device, "graph" in self._parts)
        elif "graph" in self._parts:
            raise EdgeferError("CUDA graphs are a GPU's, and PyTorch runs on the CPU", hint="--device cuda")
        self._lock = threading.Lock()
        if self._parts & {"compile", "graph"}:
            self._try()

    def in_form(self, form: str) -> TorchSession:
        """A session over a copy of the network in another form. Raises what the constructor does."""
        network = copy.deepcopy(self._network)
        return TorchSession(network, self._contract, self.threads, str(self._device), form)

    def _try(self) -> None:
        """What compilers and captures refuse is said here, not in the middle of a measurement."""
        try:
            self.run({INPUT_NAME: np.zeros((1, *self._contract.face_shape), np.uint8)})
        except (RuntimeError, ImportError, OSError) as cause:
            raise EdgeferError(
                f"PyTorch cannot run {'+'.join(sorted(self._parts))} here: {first_line(cause)}",
                hint="leave it out of --pytorch"
                + ("; torch.compile needs a C++ compiler and, on a GPU, Triton" if "compile" in self._parts else ""),
            ) from cause

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs by name.

        Raises:
            EdgeferError: the session was closed; the GPU's memory ran out.
        """
        if self._module is None:
            raise EdgeferError("a PyTorch session was used after it was closed", hint="load the network again")
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        faces = feeds[INPUT_NAME]
        if self._staged is not None:
            return {OUTPUT_NAME: self._run_staged(self._staged, faces)}
        if not faces.flags.writeable or any(stride < 0 for stride in faces.strides):
            faces = faces.copy()  # from_numpy takes neither in silence
        with torch.inference_mode():
            logits = self._answer(torch.from_numpy(faces))
        return {OUTPUT_NAME: logits.numpy()}

    def _run_staged(self, staged: _StagedCalls, faces: NDArray[Any]) -> NDArray[Any]:
        try:
            with self._lock:  # two threads would share the staging memory
                logits, self.timing = staged.call(faces)
        except torch.OutOfMemoryError as cause:
            raise EdgeferError(
                f"the memory of {self._device} ran out with {len(faces)} faces per call: {first_line(cause)}",
                hint="a smaller --batch, or stop what else uses the GPU",
            ) from cause
        return logits

    def _answer(self, faces: Tensor) -> Tensor:
        assert self._module is not None
        if "fp16" not in self._parts:
            return self._module(faces)
        # without the cache of converted weights, which a captured graph must not share with later calls
        with torch.autocast(self._device.type, torch.float16, cache_enabled=False):
            return self._module(faces).float()

    def close(self) -> None:
        """Let go of the network, and of the memory for its calls."""
        self._module, self._staged = None, None


def _rounds_to_tf32(device: torch.device) -> bool:
    """Whether convolutions multiply in TF32: PyTorch's default, on GPUs from Ampere on."""
    allowed: bool = torch.backends.cudnn.allow_tf32
    return device.type == "cuda" and allowed and torch.cuda.get_device_capability(device)[0] >= 8


@dataclass
class _Staged:
    """Memory for the calls with one batch size: on the host page-locked, which is copied without staging."""

    host_faces: Tensor
    faces: Tensor
    logits: Tensor
    host_logits: Tensor
    graph: torch.cuda.CUDAGraph | None


class _StagedCalls:
    """Calls from page-locked memory to the device and back, timed by events; ``graph``: replayed as a CUDA graph."""

    def __init__(self, answer: Callable[[Tensor], Tensor], device: torch.device, graph: bool) -> None:
        self._answer, self._device, self._graph = answer, device, graph
        self._sizes: dict[int, _Staged] = {}
        self._marks = [torch.cuda.Event(enable_timing=True) for _ in range(4)]  # type: ignore[no-untyped-call]

    def call(self, batch: NDArray[Any]) -> tuple[NDArray[Any], CallTiming]:
        """The logits of uint8 N×H×W×C faces, and how long it took."""
        begin, sent, computed, back = self._marks
        with torch.inference_mode(), torch.cuda.device(self._device):
            staged = self._sizes.get(len(batch)) or self._made(batch.shape)
            np.copyto(staged.host_faces.numpy(), batch)
            begin.record()
            staged.faces.copy_(staged.host_faces, non_blocking=True)
            sent.record()
            if staged.graph is None:
                staged.logits = self._answer(staged.faces)
            else:
                staged.graph.replay()
            computed.record()
            staged.host_logits.copy_(staged.logits, non_blocking=True)
            back.record()
            back.synchronize()
        timing = CallTiming(
            upload=begin.elapsed_time(sent),
            compute=sent.elapsed_time(computed),
            download=computed.elapsed_time(back),
            graph=staged.graph is not None,
        )
        return staged.host_logits.numpy().copy(), timing

    def _made(self, shape: tuple[int, ...]) -> _Staged:
        locked = self._device.type == "cuda"
        host_faces = torch.zeros(shape, dtype=torch.uint8, pin_memory=locked)
        faces = host_faces.to(self._device)
        graph, logits = self._captured(faces) if self._graph else (None, self._answer(faces))
        host_logits = torch.zeros(logits.shape, dtype=logits.dtype, pin_memory=locked)
        self._sizes[shape[0]] = made = _Staged(host_faces, faces, logits, host_logits, graph)
        return made

    def _captured(self, faces: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """A graph that computes the returned logits from ``faces``, as PyTorch's notes on CUDA semantics say."""
        now = torch.cuda.current_stream(self._device)
        side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # missing in torch's stubs
        side.wait_stream(now)
        with torch.cuda.stream(side):
            for _ in range(3):  # what libraries set up in their first calls cannot be captured
                self._answer(faces)
        now.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            logits = self._answer(faces)
        return graph, logits
