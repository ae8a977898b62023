"""Somebody else's float ONNX file becomes a model.onnx: end cut, batch freed, opset raised, uint8 faces in front."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import compose, helper, numpy_helper, version_converter

from edgefer import __version__
from edgefer.atomic import sha256_file, write_bytes
from edgefer.contract import INPUT_NAME, OUTPUT_NAME, Contract
from edgefer.contract_file import read_contract
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.engines.session import Session
from edgefer.errors import EdgeferError
from edgefer.graph.canonical import canonicalise
from edgefer.graph.foreign import RESHAPING, Foreign, read_foreign
from edgefer.graph.onnx_file import check_interface, opset_of, serialise, stamp
from edgefer.graph.parity import measure_parity, parity_faces, require_parity
from edgefer.graph.simplify import simplify_model
from edgefer.intake import reading
from edgefer.progress import announce, progress

OPSET = 17
"""TensorRT 8 reads no more."""

MIN_OPSET = 13
"""Per-channel QuantizeLinear begins here."""


@dataclass(frozen=True)
class CutHead:
    """The removed end of the graph: ``kind`` is ``"Softmax"``, ``"LogSoftmax"`` or ``""``."""

    kind: str

    def applied(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """The answer that the uncut graph would give for ``logits``, N×classes."""
        if not self.kind:
            return logits
        shifted = logits - logits.max(axis=1, keepdims=True)
        total = np.exp(shifted).sum(axis=1, keepdims=True)
        answer: NDArray[np.float64] = np.exp(shifted) / total if self.kind == "Softmax" else shifted - np.log(total)
        return answer


def cut_head(model: onnx.ModelProto, output: str) -> tuple[onnx.ModelProto, CutHead]:
    """A copy with ``output`` as its only output, taken before a Softmax or LogSoftmax at its end."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    maker = {name: node for node in graph.node for name in node.output}
    kept = [value for value in graph.output if value.name == output]
    del graph.output[:]
    graph.output.extend(kept)
    node = maker.get(output)
    while node is not None and node.op_type in RESHAPING:
        node = maker.get(node.input[0])
    if node is None or node.op_type not in ("Softmax", "LogSoftmax"):
        return canonicalise(result), CutHead("")
    head = CutHead(node.op_type)
    node.op_type = "Identity"
    del node.attribute[:]
    return canonicalise(result), head


def to_opset(model: onnx.ModelProto, origin: Path) -> tuple[onnx.ModelProto, str]:
    """``model`` in opset 17 if onnx can convert it, and a sentence about that (``""`` where it was 17 already).

    Raises:
        EdgeferError: it cannot, and the model's own opset is under 13.
    """
    version = opset_of(model)
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    del plain.opset_import[:]
    plain.opset_import.append(helper.make_opsetid("", version))  # imports of other domains that no node uses
    if version == OPSET:
        return _dated(plain), ""
    try:
        converted: onnx.ModelProto = version_converter.convert_version(plain, OPSET)
        onnx.checker.check_model(converted, full_check=True)
    except Exception as cause:  # its errors share no base class but Exception
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        if version < MIN_OPSET:
            raise EdgeferError(
                f"{origin} is in opset {version}, which onnx {onnx.__version__} cannot convert to {OPSET}: {reason}",
                hint=f"export it again with opset_version={OPSET}; {MIN_OPSET} is the minimum",
            ) from cause
        return _dated(plain), f"it stays in opset {version}, which cannot be converted to {OPSET} ({reason})"
    return _dated(canonicalise(converted)), f"opset {version} was converted to {OPSET}"


def _dated(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give the model the oldest file format that has its operators: older runtimes then read it."""
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import))
    return model


def with_free_batch(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """A copy of a model for one face whose Reshapes leave the batch free, and how many were rewritten.

    Whether nothing else has the batch built in shows when it is run.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    rewritten = 0
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[0] in constants or node.input[1] not in constants:
            continue
        shape: NDArray[Any] = numpy_helper.to_array(constants[node.input[1]]).copy()
        if shape.ndim != 1 or len(shape) < 2 or shape[0] != 1:
            continue
        shape[0] = 0 if -1 in shape else -1  # 0: as in the input
        rewritten += 1
        name = f"{node.output[0]}_free_shape"
        graph.initializer.append(numpy_helper.from_array(shape, name))
        node.input[1] = name
    return result, rewritten


def behind_faces(model: onnx.ModelProto, entry: str, layout: str, contract: Contract) -> onnx.ModelProto:
    """``model``, with one output, behind ``faces`` uint8 N×H×W×C: Cast, layout, ``·a``, ``+b``; its output ``logits``.

    The nodes are those of :class:`edgefer.models.deployable.Deployable`.
    """
    prefixed: onnx.ModelProto = compose.add_prefix(model, "foreign/")
    graph = prefixed.graph
    a, b = contract.normalisation.affine()
    axes = [1, 1, 1, 1]
    axes[layout.index("C")] = contract.channels
    nodes = [helper.make_node("Cast", [INPUT_NAME], ["float"], to=onnx.TensorProto.FLOAT)]
    if layout == "NCHW":
        nodes.append(helper.make_node("Transpose", [nodes[-1].output[0]], ["planes"], perm=[0, 3, 1, 2]))
    steps = [("Mul", "a", a, bool((a != 1).any())), ("Add", "b", b, bool((b != 0).any()))]
    for kind, name, values, needed in steps:
        if needed:
            graph.initializer.append(numpy_helper.from_array(values.reshape(axes), name))
            nodes.append(helper.make_node(kind, [nodes[-1].output[0], name], [f"{name}_out"]))
    scores = graph.output[0].name
    body = [*nodes, helper.make_node("Identity", [nodes[-1].output[0]], [f"foreign/{entry}"]), *graph.node]
    body.append(helper.make_node("Identity", [scores], [OUTPUT_NAME]))
    faces = helper.make_tensor_value_info(INPUT_NAME, onnx.TensorProto.UINT8, ["N", *contract.face_shape])
    logits = helper.make_tensor_value_info(OUTPUT_NAME, onnx.TensorProto.FLOAT, ["N", len(contract.labels)])
    made = helper.make_graph(body, "network", [faces], [logits], list(graph.initializer))
    result: onnx.ModelProto = helper.make_model(
        made, opset_imports=list(prefixed.opset_import), ir_version=prefixed.ir_version
    )
    return result


TOLERANCE = 1e-4
"""Largest difference of a logit from the foreign file's, relative to the largest logit; of a probability, absolute."""


@dataclass(frozen=True)
class AdoptResult:
    """What :func:`adopt` wrote.

    Attributes:
        path: the file.
        sha256: hash of the file.
        bytes: its size.
        nodes: operators in the graph.
        layout: layout of the foreign input, ``"NCHW"`` or ``"NHWC"``.
        opset: opset of the written file.
        changes: changes besides the input, one sentence each; announced as well.
        max_abs_diff: largest difference of a logit from the foreign file's on the same faces.
        logit_scale: the foreign file's largest absolute logit there.
        simplified: whether onnxsim's result was taken.
    """

    path: Path
    sha256: str
    bytes: int
    nodes: int
    layout: str
    opset: int
    changes: tuple[str, ...]
    max_abs_diff: float
    logit_scale: float
    simplified: bool


def adopt(
    foreign: str | os.PathLike[str],
    contract: Contract | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    layout: str | None = None,
    own_scaling: bool = False,
    simplify: bool = True,
    tolerance: float = TOLERANCE,
) -> AdoptResult:
    """Put the float network of a foreign ONNX file behind a contract, so that everything downstream works on it.

    The contract's labels are in the order of the foreign outputs. A Softmax at the end is cut off, a fixed batch of one
    is made free, the operator set becomes 17 where that can be converted; each is announced. ONNX Runtime must give the
    foreign file's answers, which is fed the faces as normalised floats, before the new file gets its name.

    Args:
        foreign: one float32 input of images, N×C×H×W or N×H×W×C, and class scores N×labels.
        contract: labels, size and normalisation, or a TOML file that says so.
        output: the ``.onnx`` file.
        layout: ``"NCHW"`` or ``"NHWC"``, where the file's sizes fit both.
        own_scaling: accept a graph that scales its input after the contract's normalisation.
        simplify: run onnxsim, checked.
        tolerance: largest difference of a logit relative to the largest logit.

    Raises:
        EdgeferError: a contract with a test-time flip; what :func:`edgefer.graph.foreign.read_foreign` refuses; an
            operator set under 13 that cannot be converted; a batch size built into the graph; other answers than the
            foreign file's.
    """
    if Path(output).suffix != ".onnx":
        raise EdgeferError(
            f"a model is written as .onnx, not as {output}", hint=f"-o {Path(output).with_suffix('.onnx')}"
        )
    if not isinstance(contract, Contract):
        contract = read_contract(contract)
    if contract.test_time_flip:
        raise EdgeferError(
            "the contract has test_time_flip, and adopt cannot add it to a foreign graph",
            hint="test_time_flip = false; `edgefer export --module` can add it to a PyTorch network",
        )
    with reading(foreign, "it is damaged, or does not fit the contract: `edgefer inspect` and onnx.checker tell more"):
        found = read_foreign(foreign, contract, layout=layout, own_scaling=own_scaling)
        origin = Path(foreign)
        lineage = {"weights_sha256": sha256_file(origin), "adopted_from": origin.name, "edgefer": __version__}
        contract = replace(contract, lineage={**contract.lineage, **lineage})
        if found.bound:
            _check_size(found, contract, origin)
        with progress(f"adopting {origin.name}", 3) as advance:
            model, head, changes = _behind(found, contract, origin)
            for change in changes:
                announce(f"note: {origin}: {change}")
            stamp(model, contract, "fp32")
            check_interface(model, contract, f"what was made of {origin}")
            reference = _ForeignSession(serialise(cut_head(found.model, found.output)[0]), found, contract)
            _check_batch(serialise(model), contract, origin, tolerance)
            advance(1, "simplifying")
            simplified = False
            if simplify:
                result = simplify_model(model, contract, tolerance=tolerance)
                model, simplified = result.model, result.applied
            content = serialise(model)
            advance(1, "comparing")
            candidate = OnnxRuntimeSession(content)
            parity = measure_parity(reference, candidate, contract)
            require_parity(parity, tolerance, f"{origin} and the network made of it")
            _check_answers(head, _ForeignSession(serialise(found.raw), found, contract), candidate, contract, tolerance)
            advance(1)
    write_bytes(output, content)
    return AdoptResult(
        path=Path(output),
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        nodes=len(model.graph.node),
        layout=found.layout,
        opset=opset_of(model),
        changes=changes,
        max_abs_diff=parity.max_abs_diff,
        logit_scale=parity.logit_scale,
        simplified=simplified,
    )


def _behind(found: Foreign, contract: Contract, origin: Path) -> tuple[onnx.ModelProto, CutHead, tuple[str, ...]]:
    """The foreign network with the contract's input and output, what its end was, and what was changed."""
    changes = list(found.notes)
    model, head = cut_head(found.model, found.output)
    if head.kind:
        changes.append(f"the {head.kind} at the end was cut off: outputs are logits")
    model, note = to_opset(model, origin)
    if note:
        changes.append(note)
    if found.batch is not None:
        if found.batch != 1:
            raise EdgeferError(
                f"{origin} takes batches of {found.batch} only", hint="export it with a free batch, or a batch of 1"
            )
        model, reshapes = with_free_batch(model)
        changes.append(f"its batch of 1 was made free ({reshapes} Reshape{'s' * (reshapes != 1)} rewritten)")
    model = canonicalise(behind_faces(model, found.input, found.layout, contract))
    return model, head, tuple(changes)


class _ForeignSession:
    """The foreign file as a session of the contract: it is fed uint8 faces, which are normalised here, in float64."""

    name = "the foreign file"
    version = ""

    def __init__(self, content: bytes, found: Foreign, contract: Contract, threads: int = 0) -> None:
        """With ``threads`` as fast as can be; else the nodes as they are written, on one thread."""
        self._session = OnnxRuntimeSession(content, max(threads, 1), optimise=threads > 0)
        self.inputs, self.outputs = self._session.inputs, self._session.outputs
        self._found, self._norm = found, contract.normalisation

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        faces = feeds[INPUT_NAME].astype(np.float64)
        pixels = (faces * self._norm.scale - np.asarray(self._norm.mean)) / np.asarray(self._norm.std)
        if self._found.layout == "NCHW":
            pixels = pixels.transpose(0, 3, 1, 2)
        batch = pixels.astype(np.float32)
        step = self._found.batch or len(batch)
        output = self._found.output
        answers = [
            self._session.run({self._found.input: batch[i : i + step]})[output] for i in range(0, len(batch), step)
        ]
        return {OUTPUT_NAME: np.concatenate(answers)}

    def close(self) -> None:
        self._session.close()


def foreign_session(file: Path, contract: Contract, threads: int = 1) -> Session:
    """A foreign file, uncut but for a softmax at its end, as a session of the contract that also takes float pixels.

    Raises:
        EdgeferError: what :func:`edgefer.graph.foreign.read_foreign` refuses, but for scaling of its own.
    """
    found = read_foreign(file, contract, own_scaling=True)
    return _ForeignSession(serialise(cut_head(found.model, found.output)[0]), found, contract, threads)


def _check_size(found: Foreign, contract: Contract, origin: Path) -> None:
    """A file that leaves the size of its faces free must run on the contract's."""
    face = parity_faces(contract)[0]
    try:
        answers = _ForeignSession(serialise(found.raw), found, contract).run({INPUT_NAME: face})[OUTPUT_NAME]
    except EdgeferError as cause:
        # A file that is damaged does not get here: it was read, and its input has a free size.
        raise EdgeferError(
            f"{origin} leaves the size of its faces free, and does not run on the contract's "
            f"{'×'.join(map(str, contract.face_shape))} (height×width×channels): {cause.message}",
            hint="make input.height and input.width of the contract those that the network was trained with",
        ) from cause
    if not np.isfinite(answers).all():
        raise EdgeferError(
            f"{origin} answers with values that are no numbers on the contract's "
            f"{'×'.join(map(str, contract.face_shape))} faces",
            hint="make input.height and input.width of the contract those that the network was trained with",
        )


def _check_batch(content: bytes, contract: Contract, origin: Path, tolerance: float) -> None:
    """Three faces at once must give what they give alone."""
    session = OnnxRuntimeSession(content, optimise=False)
    faces = np.concatenate(parity_faces(contract)[:2])[:3]
    alone = np.concatenate([session.run({INPUT_NAME: face[None]})[OUTPUT_NAME] for face in faces])
    hint = "export it with a free first axis: torch.onnx.export(…, dynamic_axes={'input': {0: 'N'}})"
    try:
        together = session.run({INPUT_NAME: faces})[OUTPUT_NAME]
    except EdgeferError as cause:
        raise EdgeferError(
            f"{origin} has a batch of one built in, and cannot take more faces: {cause.message}", hint=hint
        ) from cause
    if alone.shape != (3, len(contract.labels)):
        raise EdgeferError(
            f"{origin} returns {alone.shape[1:]} for a face; the contract has {len(contract.labels)} labels",
            hint="give the contract one label for each output of the network, in their order",
        )
    difference = float(np.abs(together - alone).max()) if together.shape == alone.shape else np.inf
    if not difference <= tolerance * max(float(np.abs(alone).max()), 1e-6):
        raise EdgeferError(
            f"{origin} answers otherwise for three faces at once than for each alone (by {difference:.3g}): "
            "a batch of one is built in",
            hint=hint,
        )


def _check_answers(
    head: CutHead, foreign: _ForeignSession, candidate: OnnxRuntimeSession, contract: Contract, tolerance: float
) -> None:
    """Refuse a file unless its removed end, applied to the new logits, gives the answers of the untouched file."""
    for faces in parity_faces(contract):
        answers = foreign.run({INPUT_NAME: faces})[OUTPUT_NAME]
        logits = np.asarray(candidate.run({INPUT_NAME: faces})[OUTPUT_NAME], dtype=np.float64)
        difference = float(np.abs(head.applied(logits) - answers).max())
        scale = 1.0 if head.kind == "Softmax" else max(float(np.abs(answers).max()), 1e-6)
        if not difference <= tolerance * scale:
            raise EdgeferError(
                f"the logits, put through {head.kind or 'nothing'}, differ from the foreign file's answers by "
                f"{difference:.3g}",
                hint="its last operator works along another axis: export it without",
            )
        if not head.kind and bool(np.all(answers >= 0)) and bool(np.all(np.abs(answers.sum(axis=1) - 1) < 1e-3)):
            raise EdgeferError(
                "the foreign file returns probabilities, and no Softmax was found at its end that could be cut off",
                hint="export the network without its softmax",
            )
