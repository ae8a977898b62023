"""From a path or a name to a classifier that was checked: nothing is served before its golden vectors are right."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from edgefer.contract import Contract
from edgefer.contract_file import read_contract
from edgefer.engines.classifier import Classifier, check_golden
from edgefer.engines.cpu import instruction_set, saturates
from edgefer.engines.session import open_session
from edgefer.errors import EdgeferError, require
from edgefer.manifest import PRECISION_KEY, Manifest, manifest_path, read_manifest, verify_file
from edgefer.progress import announce
from edgefer.runtimes import CPU, PYTORCH, REFERENCE, engine_suffixes, resolve, runtime_named

if TYPE_CHECKING:
    from edgefer.engines.pytorch import TorchSession

WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class TorchBaseline:
    """A baseline in PyTorch that needs more than one name.

    Attributes:
        network: a network of the zoo, a weights file, or ``package.module:factory``.
        weights: weights of a named network; None: those that ship, or those that the factory gives.
        contract: the contract, or a TOML file of it, of a factory's network or of a weights file that carries none;
            None: that of the first engine that is compared.
        device: ``cpu``, ``cuda`` or ``cuda:N``; None: the CPU or, in a benchmark, where the engines run.
    """

    network: str
    weights: str | os.PathLike[str] | None = None
    contract: Contract | str | os.PathLike[str] | None = None
    device: str | None = None


FORMS: Final = ("fp16", "channels-last", "compile", "graph")
"""How else than eagerly in FP32 PyTorch can run a network; ``fp16+graph`` joins two.

They are torch.autocast in FP16, weights in channels-last layout, torch.compile, and calls replayed as a CUDA graph.
"""


def parse_forms(text: str) -> tuple[str, ...]:
    """The forms of a list such as ``fp16,fp16+graph``; ``all`` is each of them alone, ``none`` is none.

    Raises:
        EdgeferError: an unknown form.
    """
    if text in ("all", "none"):
        return FORMS if text == "all" else ()
    found = tuple(dict.fromkeys("+".join(sorted(part.strip().split("+"), key=_rank)) for part in text.split(",")))
    for form in found:
        for part in form.split("+"):
            if part not in FORMS:
                raise EdgeferError(
                    f"PyTorch has no form '{part}'", hint=f"--pytorch {','.join(FORMS)}, fp16+graph, all or none"
                )
    return found


def _rank(part: str) -> int:
    return FORMS.index(part) if part in FORMS else len(FORMS)


def runs_in_pytorch(network: str) -> bool:
    """Whether a baseline of this name is a network in PyTorch, not an engine and not predictions."""
    return Path(network).suffix not in (".npz", *engine_suffixes())


def load_engine(path: str | os.PathLike[str], threads: int = 1) -> Classifier:
    """Open an engine and check it: its hash, its runtime, this CPU, and its golden vectors.

    Args:
        path: an engine with its manifest beside it, or a float model.onnx as `edgefer export` wrote it.
        threads: inside one operator.

    Raises:
        EdgeferError: the file is missing, damaged or not edgefer's; engine and manifest do not belong together; the
            runtime is not here; this CPU would compute something else; the golden vectors differ.
    """
    file = Path(path)
    check_is_engine(file)
    if not manifest_path(file).exists():
        if file.stat().st_size == 0:
            raise EdgeferError(f"{file} is empty", hint="copy or build it again")
        if file.suffix == REFERENCE.suffix:
            return _without_manifest(file, threads)
    manifest = read_manifest(file)
    try:
        return _with_manifest(file, manifest, threads)
    except EdgeferError:
        newer = read_manifest(file)
        if newer.engine_sha256 == manifest.engine_sha256:
            raise
        return _with_manifest(file, newer, threads)  # it was built again between our looks


def check_is_engine(file: Path) -> None:
    """Refuse what is no file, or is not named as an engine is; a manifest alone will do, see :func:`verify_file`."""
    if not file.is_file() and not manifest_path(file).is_file():
        raise EdgeferError(
            f"there is no engine {file}" if not file.exists() else f"{file} is not a file",
            hint="check the path; `edgefer build-engine model.onnx --int8 -o x.onnx` makes engines",
        )
    if file.suffix not in engine_suffixes():
        raise EdgeferError(
            f"{file} is not an engine: '{file.suffix}' is neither {' nor '.join(engine_suffixes())}",
            hint=f"weights become an engine by {export_line(file)}, then `edgefer build-engine`",
        )


def export_line(weights: Path) -> str:
    """The command that exports ``weights``; a placeholder where the file is none, or does not name its network."""
    if weights.suffix not in WEIGHTS_SUFFIXES:
        return "`edgefer export`"
    network = [] if weights.suffix == ".safetensors" else ["--model", "NAME"]
    output = ["-o", str(weights.with_suffix(".onnx"))]
    return f"`{shlex.join(['edgefer', 'export', *network, '--weights', str(weights), *output])}`"


def require_packages(engines: Sequence[str | os.PathLike[str]], baseline: str | TorchBaseline | None = None) -> None:
    """Say which package ``engines`` and ``baseline`` lack here, before data are read; none is opened.

    Raises:
        EdgeferError: the package of a CPU runtime is not installed; a manifest cannot be read.
    """
    files = [Path(engine) for engine in engines]
    if isinstance(baseline, str) and Path(baseline).suffix in engine_suffixes():
        files.append(Path(baseline))
    elif baseline is not None and not (isinstance(baseline, str) and baseline.endswith(".npz")):
        PYTORCH.require("a baseline in PyTorch")
    for file in files:
        check_is_engine(file)
        row = runtime_named(read_manifest(file).runtime) if manifest_path(file).is_file() else REFERENCE
        if row.target == CPU:  # others say themselves how they come to a device
            row.require(f"running {file}")


def load_baseline(
    spec: str | os.PathLike[str] | TorchBaseline, threads: int = 1, *, contract: Contract | None = None
) -> Classifier:
    """Open what an engine is compared with: a network in PyTorch, or another engine.

    Args:
        spec: a network's name (its shipped weights), a weights file (.safetensors, .pth, .pt), a network of one's own
            (``package.module:factory``, importable from the current directory), or an engine (.onnx); with weights or a
            contract of its own it is a :class:`TorchBaseline`.
        threads: inside one operator.
        contract: contract of what carries none (a .pth or .pt file, a factory): that of the engine it is compared with.

    Raises:
        EdgeferError: neither a file nor a name that is known; or the file is refused.
    """
    asked = spec if isinstance(spec, TorchBaseline) else TorchBaseline(os.fspath(spec))
    text, path = asked.network, Path(asked.network)
    if asked.weights is not None or asked.contract is not None:
        _refuse_second(asked)
    if path.suffix == ".npz":
        raise EdgeferError(
            f"{text} holds predictions, which cannot be run", hint="`edgefer bench --baseline` compares with them"
        )
    if path.suffix in engine_suffixes():
        return load_engine(path, threads)
    if path.suffix not in WEIGHTS_SUFFIXES and asked.weights is None and ":" not in text:
        asked = replace(asked, weights=_shipped(text))
    return _pytorch(asked, threads, contract)


def _refuse_second(asked: TorchBaseline) -> None:
    """Refuse weights for what has weights, and a contract for what has a contract."""
    suffix, factory = Path(asked.network).suffix, ":" in asked.network
    weights = asked.network if suffix in WEIGHTS_SUFFIXES else os.fspath(asked.weights or "")
    if suffix in (".npz", *engine_suffixes()):
        raise EdgeferError(
            f"the baseline {asked.network} brings its own weights and contract",
            hint="leave --weights and --contract out",
        )
    if asked.weights is not None and suffix in WEIGHTS_SUFFIXES:
        raise EdgeferError(
            f"the baseline {asked.network} is a weights file, and {asked.weights} another one",
            hint="leave --weights out",
        )
    if asked.contract is not None and not factory and Path(weights).suffix not in (".pth", ".pt"):
        raise EdgeferError(
            f"the baseline {asked.network} has a contract of its own",
            hint="leave --contract out: it goes with a network of your own, or with weights in .pth or .pt",
        )


def _shipped(name: str) -> Path:
    from edgefer.models.registry import names
    from edgefer.models.weights import shipped, shipped_for

    weights = shipped(name)
    if weights is not None:
        return weights
    if name in names():
        raise EdgeferError(
            f"edgefer ships no weights for '{name}'",
            hint=f"train them: `edgefer train --model {name} --data DATA -o W.safetensors`, then give that file",
        )
    ready = [found for known in names() for found in shipped_for(known)]
    close = difflib.get_close_matches(name, ready, n=1)
    raise EdgeferError(
        f"the baseline '{name}' is neither a network nor a file that can be run",
        hint=(f"did you mean '{close[0]}'? " if close else "")
        + f"give one of {', '.join(ready)}, a weights file ({', '.join(WEIGHTS_SUFFIXES)}), a network of your own "
        "(nets:Net) or an engine (.onnx)",
    )


def _pytorch(asked: TorchBaseline, threads: int, assumed: Contract | None) -> Classifier:
    require(PYTORCH.package, PYTORCH.extra, "a baseline in PyTorch")
    from edgefer.engines.pytorch import TorchSession, open_network
    from edgefer.models.repvgg import inference_form

    given = asked.contract if isinstance(asked.contract, Contract | None) else read_contract(asked.contract)
    network, contract, met = open_network(asked.network, asked.weights, given, assumed)
    network = inference_form(network)  # as it is deployed: timed with its branches, a network would flatter its engines
    size = sum(tensor.nbytes for tensor in network.state_dict().values())
    session = TorchSession(network, contract, threads, asked.device or "cpu")
    return Classifier(session, contract, precision=session.precision, size_bytes=size, name=asked.network, met=met)


def in_form(baseline: Classifier, form: str) -> Classifier:
    """The same network in PyTorch, with the same weights, in a form of :data:`FORMS` or several joined by ``+``.

    Raises:
        EdgeferError: it cannot run in that form here.
    """
    session = cast("TorchSession", baseline.session).in_form(form)
    return Classifier(
        session,
        baseline.contract,
        precision=session.precision,
        size_bytes=baseline.size_bytes,
        name=f"{baseline.name}+{form}",
        met=baseline.met,
    )


def _with_manifest(file: Path, manifest: Manifest, threads: int) -> Classifier:
    described = verify_file(file, manifest)
    runtime = runtime_named(manifest.runtime)
    if file.suffix != runtime.suffix:
        raise EdgeferError(
            f"{file} ends in {file.suffix}, and its manifest says it is for {runtime.name}",
            hint=f"rename it to {file.with_suffix(runtime.suffix).name}, with its manifest",
        )
    if runtime.check:
        resolve(runtime.check)(described, manifest)
    session = open_session(runtime.name, described, threads, manifest.precision.got)
    if manifest.runtime_version not in ("", session.version):
        announce(
            f"note: {file} was built with {runtime.name} {manifest.runtime_version} and runs in {session.version}; "
            "its golden vectors decide"
        )
    try:
        classifier = Classifier.of_engine(session, manifest, str(file))
        check_golden(classifier, manifest.golden)
    except EdgeferError:
        session.close()
        raise
    return classifier


def check_cpu_engine(file: Path, manifest: Manifest) -> None:
    """Refuse an ONNX engine that its manifest describes wrongly or whose sums this CPU would saturate.

    Any other difference between this CPU and the one that built the engine is announced.

    Raises:
        EdgeferError: the contract or the precision in the file is another one; 8-bit weights made where sums are exact,
            and this CPU is an x86 without VNNI.
    """
    onnx = require("onnx", "cpu", "reading an engine")
    metadata = {entry.key: entry.value for entry in onnx.load(file, load_external_data=False).metadata_props}
    wrong = ""
    if Contract.from_metadata(metadata, str(file)) != manifest.contract:
        wrong = "contract (labels, input, normalisation or test-time flip)"
    elif metadata.get(PRECISION_KEY) != manifest.precision.got:
        wrong = f"precision ({manifest.precision.got}, and the file {metadata.get(PRECISION_KEY)})"
    if wrong:
        raise EdgeferError(
            f"the manifest of {file} states another {wrong} than the file itself",
            hint="it was edited: build the engine again with `edgefer build-engine`",
        )
    built, here = manifest.instruction_set, instruction_set()
    if set(built) == set(here):
        return
    if manifest.precision.has_int8 and saturates(here) and not saturates(built):
        raise EdgeferError(
            f"{file} has 8-bit weights, made on a CPU with {_listed(built)}; this one ({_listed(here)}) has no VNNI, "
            "and its uint8×int8 sums would saturate",
            hint="build the engine again on this machine: `edgefer build-engine model.onnx --int8` takes 7-bit "
            "weights where sums would saturate",
        )
    if not built and not manifest.precision.has_int8:
        return  # a float file that was compiled for no CPU
    announce(
        f"note: {file} was built and measured on a CPU with {_listed(built)}; this one has {_listed(here)}: "
        "its speed may differ"
    )


def _listed(instructions: tuple[str, ...]) -> str:
    return " ".join(instructions) or "unknown instructions"


def _without_manifest(file: Path, threads: int) -> Classifier:
    """A float model as exported: its contract is in its metadata, and parity with PyTorch was checked at export."""
    from edgefer.engines.onnxruntime import OnnxRuntimeSession

    session = OnnxRuntimeSession(file, threads)
    contract = Contract.from_metadata(session.metadata, str(file))
    precision = session.metadata.get(PRECISION_KEY, "unstated")
    if precision != "fp32":
        raise EdgeferError(
            f"{file} has no manifest beside it, and its precision is {precision}: only fp32 exports run without one",
            hint=f"copy {manifest_path(file).name} beside it, or build the engine again with `edgefer build-engine`",
        )
    return Classifier(session, contract, precision=precision, size_bytes=file.stat().st_size, name=str(file))
