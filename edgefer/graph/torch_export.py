"""PyTorch → ONNX: one file of opset 17 that takes uint8 faces, checked against PyTorch before it gets its name."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from edgefer import __version__
from edgefer.atomic import write_bytes
from edgefer.contract import INPUT_NAME, OUTPUT_NAME, Contract
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.engines.pytorch import TorchSession
from edgefer.errors import EdgeferError
from edgefer.graph.canonical import canonicalise
from edgefer.graph.onnx_file import check_interface, serialise, stamp
from edgefer.graph.parity import Parity, measure_parity, require_parity
from edgefer.graph.simplify import simplify_model
from edgefer.models import create
from edgefer.models.deployable import Deployable
from edgefer.models.factory import error_of_network, try_network
from edgefer.models.repvgg import inference_form
from edgefer.progress import progress
from edgefer.quantize.graphview import macs_by_layer

Network = nn.Module
"""Normalised float32 N×C×H×W → float32 N×classes logits."""

OPSET = 17
"""TensorRT 8 reads no more, and nothing here needs more."""


@dataclass(frozen=True)
class ExportResult:
    """What :func:`export_model` wrote.

    Attributes:
        path: the file.
        sha256: hash of the file; the same weights give the same hash.
        bytes: its size.
        nodes: operators in the graph.
        parameters: learnable numbers of the network, as it is deployed.
        macs: multiply-accumulates of convolutions and fully connected layers for one face.
        max_abs_diff: largest difference of a logit from PyTorch's, over synthetic faces and noise.
        logit_scale: PyTorch's largest absolute logit there.
        top1_agreement: share of those faces with PyTorch's top class.
        simplified: whether onnxsim's result was taken.
        note: result of simplification, or why it was not taken.
        seconds: it all took.
    """

    path: Path
    sha256: str
    bytes: int
    nodes: int
    parameters: int
    macs: int
    max_abs_diff: float
    logit_scale: float
    top1_agreement: float
    simplified: bool
    note: str
    seconds: float


def export_model(
    network: nn.Module,
    contract: Contract,
    output: str | os.PathLike[str],
    *,
    simplify: bool = True,
    tolerance: float = 1e-4,
) -> ExportResult:
    """Write ``network`` as ONNX: uint8 ``faces`` N×H×W×C → float32 ``logits`` N×classes, N free.

    Cast, layout and normalisation are the first nodes; branches that only training needs are folded. Contract, lineage
    and precision travel in the metadata. ONNX Runtime must answer like PyTorch, which runs the branches, with batches
    of 1 and 5, before the file gets its name.

    Args:
        network: on the CPU; normalised float N×C×H×W → logits. Exported in evaluation mode, returned to its own.
        contract: labels, input and normalisation; ``lineage["weights_sha256"]`` says which file the weights are
            from (without it, the hash of the tensors themselves is recorded).
        output: the .onnx file.
        simplify: run onnxsim, whose result is checked; where it fails the graph stays, and that is announced.
        tolerance: largest difference of a logit relative to the largest logit.

    Raises:
        EdgeferError: the network does not take the contract's faces or return its labels' logits; its forward pass
            raises, or branches on its data; an operator has no ONNX form in opset 17; control flow; ONNX Runtime and
            PyTorch differ; the file cannot be written.
    """
    start = time.perf_counter()
    with (
        _evaluating(network),
        redirect_stdout(sys.stderr),  # what a network prints is no result
        progress(f"exporting {contract.architecture}", 3) as advance,
    ):
        try_network(network, contract)
        contract = _with_lineage(contract, network)
        advance(0, "tracing")
        deployed = inference_form(network)
        model = canonicalise(_traced(Deployable(deployed, contract).eval(), contract))
        stamp(model, contract, "fp32")
        _check(model, contract)
        advance(1, "simplifying")
        simplified, note = False, "not asked for"
        if simplify:
            result = simplify_model(model, contract, tolerance=tolerance)
            model, simplified, note = result.model, result.applied, result.note
        name_by_modules(model, deployed)
        content = serialise(model)
        advance(1, "comparing with PyTorch")
        parity = _parity(network, contract, content)
        advance(1)
    require_parity(parity, tolerance, f"PyTorch and ONNX Runtime on {contract.architecture}")
    write_bytes(output, content)
    return ExportResult(
        path=Path(output),
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        nodes=len(model.graph.node),
        parameters=sum(parameter.numel() for parameter in deployed.parameters()),
        macs=sum(macs_by_layer(model).values()),
        max_abs_diff=parity.max_abs_diff,
        logit_scale=parity.logit_scale,
        top1_agreement=parity.top1_agreement,
        simplified=simplified,
        note=note,
        seconds=time.perf_counter() - start,
    )


def _with_lineage(contract: Contract, network: nn.Module) -> Contract:
    lineage = {"weights_sha256": tensors_sha256(network), **contract.lineage}
    return replace(contract, lineage={**lineage, "edgefer": __version__, "exporter": f"torch {torch.__version__}"})


def untrained(contract: Contract, seed: int = 0) -> tuple[Network, Contract]:
    """The contract's network with fresh random weights from ``seed``, and the contract with that in its lineage."""
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers go on as they were
        torch.manual_seed(seed)
        network = create(contract.architecture, len(contract.labels))
    return network, replace(contract, lineage={**contract.lineage, "weights": f"random, seed {seed}"})


def tensors_sha256(network: nn.Module) -> str:
    """SHA-256 over names, types, shapes and values of the network's state, in the order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode, then give each its own mode back."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class _UnevenPooling(TorchFunctionMode):
    """Writes adaptive average pools whose output does not divide their input as two matrix products: ONNX has none.

    Row i of the output is the mean of rows ⌊i·n/m⌋ to ⌈(i+1)·n/m⌉ of the input, for n rows in and m out; columns alike.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not nn.functional.adaptive_avg_pool2d:
            return func(*args, **(kwargs or {}))
        x, size = (*args, *(kwargs or {}).values())[:2]
        before = [int(length) for length in x.shape[-2:]]
        wanted = (size, size) if isinstance(size, int) else tuple(size)
        after = [old if new is None else int(new) for new, old in zip(wanted, before, strict=True)]
        if all(old % new == 0 for old, new in zip(before, after, strict=True)):
            return func(*args, **(kwargs or {}))
        rows, columns = (_means(old, new, x) for old, new in zip(before, after, strict=True))
        return rows @ x @ columns.T


def _means(before: int, after: int, like: Tensor) -> Tensor:
    """The matrix, ``after`` × ``before``, of an adaptive average pool in one direction."""
    matrix = torch.zeros(after, before, dtype=like.dtype)
    for row in range(after):
        first, last = row * before // after, -(-(row + 1) * before // after)
        matrix[row, first:last] = 1 / (last - first)
    return matrix


def _traced(module: nn.Module, contract: Contract) -> onnx.ModelProto:
    # The TorchScript exporter, because the newer one gave opset 18 where 17 was asked for.
    faces = torch.zeros(2, *contract.face_shape, dtype=torch.uint8)
    with tempfile.TemporaryDirectory(prefix="edgefer-export-") as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript", DeprecationWarning)
        warnings.filterwarnings("ignore", "The feature will be removed", DeprecationWarning)
        warnings.filterwarnings("ignore", "Converting a tensor", Warning, module=__name__)  # faces have one size
        path = os.path.join(folder, "model.onnx")
        try:
            with _UnevenPooling():
                torch.onnx.export(
                    module,
                    (faces,),
                    path,
                    dynamo=False,
                    opset_version=OPSET,
                    input_names=[INPUT_NAME],
                    output_names=[OUTPUT_NAME],
                    dynamic_axes={INPUT_NAME: {0: "N"}, OUTPUT_NAME: {0: "N"}},
                )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as cause:
            raise EdgeferError(
                f"PyTorch cannot write the network as ONNX opset {OPSET}: {str(cause).splitlines()[0]}",
                hint="replace that operator in the network by ones that ONNX has",
            ) from cause
        except (Exception, SystemExit) as cause:  # whatever the user's network does when it is traced
            raise error_of_network(f"tracing {contract.architecture}", cause) from cause
        return onnx.load(path)


def name_by_modules(model: onnx.ModelProto, network: nn.Module) -> None:
    """Call each node of a freshly exported ``model`` by the module of ``network`` that it came from.

    A module without children that became one node gives it its path, ``body.3.0``; any other path has the operator
    behind it, ``body.3.se/Mul``.
    Nodes outside every module, such as the normalisation, are called by operator and number. The TorchScript exporter
    names nodes by scopes, ``/network/body/body.3/body.3.0/Conv``: what stands there once more is what a container is
    called, and a module that is called again has a number behind its name.
    """
    modules = dict(network.named_modules())
    known = frozenset(modules)
    paths = [_module_of(node.name, known) for node in model.graph.node]
    nodes_of = Counter(paths)
    counts: Counter[str] = Counter()
    for node, path in zip(model.graph.node, paths, strict=True):
        stem = f"{path}/{node.op_type}" if path else node.op_type
        number, counts[stem] = counts[stem], counts[stem] + 1
        if not path:
            node.name = f"{stem}_{number}"
        else:
            alone = nodes_of[path] == 1 and not any(True for _ in modules[path].children())
            node.name = path if alone else f"{stem}_{number}" if number else stem


def _module_of(name: str, known: Collection[str]) -> str:
    """The path of the innermost module in the scopes of a node's ``name``; ``""`` for the network itself."""
    root, *scopes = name.strip("/").split("/")[:-1] or [""]
    path = ""
    for scope in scopes if root == "network" else ():
        for called in (scope, re.sub(r"_\d+$", "", scope)):
            inside = f"{path}.{called}" if path else called
            beside = f"{path.rpartition('.')[0]}.{called}".strip(".")
            found = next((one for one in (called, inside, beside) if one in known and one.startswith(path)), None)
            if found is not None:
                path = found
                break
    return path


def _check(model: onnx.ModelProto, contract: Contract) -> None:
    """Refuse what the exporter must not have done, whatever it was asked for."""
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if opsets != {"ai.onnx": OPSET}:
        raise EdgeferError(
            f"the exporter of torch {torch.__version__} wrote operator sets {opsets}; ai.onnx {OPSET} was asked for",
            hint="use a PyTorch that edgefer is tested with, or replace custom operators in the network",
        )
    check_interface(model, contract, "the exported graph")
    onnx.checker.check_model(model, full_check=True)


def _parity(network: nn.Module, contract: Contract, content: bytes) -> Parity:
    eager = TorchSession(network, contract, threads=torch.get_num_threads())  # leaves PyTorch's setting alone
    return measure_parity(eager, OnnxRuntimeSession(content), contract)
