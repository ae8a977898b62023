"""The README and the script of a bundle."""

from __future__ import annotations

import shlex
from importlib.resources import files
from pathlib import Path
from typing import Final

from edgefer.contract import Contract
from edgefer.deploy.bundle_faces import Judged
from edgefer.engines.tensorrt.compat import GENERATIONS, SPANS, target_of
from edgefer.engines.tensorrt.options import BuilderOptions
from edgefer.engines.tensorrt.trtexec import trtexec_command
from edgefer.golden import Golden
from edgefer.optimize.tables import Table

_BEGIN, _END = "# settings: begin\n", "# settings: end\n"
_OF_THE_SCRIPT: Final = ("--onnx=", "--saveEngine=")


def script(contract: Contract, precision: str, names: dict[str, str], golden: Golden, has_ranges: bool) -> str:
    """``run.sh`` of this package with its settings filled in.

    Args:
        contract: of the network.
        precision: of TensorRT engines.
        names: version of :data:`~edgefer.engines.tensorrt.compat.GENERATIONS` → the file that it builds from.
        golden: whose tolerance the script holds trtexec's engine to.
        has_ranges: whether a range table is in the bundle.
    """
    body = files("edgefer.deploy").joinpath("run.sh").read_text(encoding="utf-8")
    face = "x".join(map(str, contract.face_shape))
    first, last = names[GENERATIONS[0]], names[GENERATIONS[-1]]
    settings = {
        "CPU_PRECISION": "--int8 --ranges ranges.jsonl" if has_ranges else "--fp32",
        "TENSORRT_PRECISION": " ".join(f"--{part}" for part in precision.split("+")),
        "FLAGS_FILE": first,
        "TYPES_FILE": last,
        "TYPES_FROM": str(SPANS["strong_typing"].since[0]),
        "FACE": face,
        "GOLDEN_SHAPE": f"{len(golden.faces)}x{face}",
        "TOLERANCE": f"{max(golden.tolerance[part] for part in precision.split('+')):g}",
    }
    lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
    head, _, rest = body.partition(_BEGIN)
    return head + lines + _flags(contract, precision, names) + rest.partition(_END)[2]


def _flags(contract: Contract, precision: str, names: dict[str, str]) -> str:
    """A shell function that sets ``file`` and ``flags`` for a version as trtexec says it: 8502, 100300."""
    targets = [target_of(name) for name in GENERATIONS]
    lines = ["trtexec_settings() {  # NV_TENSORRT_VERSION"]
    for position, target in enumerate(targets):
        words = shlex.split(trtexec_command(Path("model.onnx"), contract, target, precision, BuilderOptions()))
        flags = shlex.join(word for word in words[1:] if not word.startswith(_OF_THE_SCRIPT))
        name = names[GENERATIONS[position]]
        setting = f"file={shlex.quote(name)} flags={shlex.quote(flags)}"
        if position + 1 < len(targets):
            word = "if" if position == 0 else "elif"
            lines.append(f'    {word} [ "$1" -lt {targets[position + 1].number} ]; then')
        else:
            lines.append("    else")
        lines.append(f"        {setting}")
    return "\n".join([*lines, "    fi", "}", ""])


def readme(contract: Contract, precision: str, judged: Judged, ranges: Table | None) -> str:
    """What lies in the bundle, and what to type on which device."""
    size = "×".join(map(str, contract.face_shape))
    origin = "drawn faces" if judged.drawn else f"test faces of {judged.origin}"
    about_faces = (
        "They are drawings: agreement and latency mean something on them, the share of right answers does not.\n"
        "`--data DATA` of `edgefer deploy bundle` takes real ones.\n"
        if judged.drawn
        else "They may be pictures of people, with a licence of their own: keep the bundle where those may be kept.\n"
    )
    about_ranges = (
        "There are none: engines for CPUs are built in FP32."
        if ranges is None
        else f"`ranges.jsonl`: of {ranges.calibration.n:,} faces of {ranges.calibration.origin}. TensorRT's files have "
        "theirs inside."
    )
    return (
        files("edgefer.deploy")
        .joinpath("bundle_readme.md")
        .read_text(encoding="utf-8")
        .format(
            architecture=contract.architecture,
            size=size,
            labels=", ".join(contract.labels),
            precision=precision.upper().replace("+", " with the rest in "),
            count=judged.count,
            origin=origin,
            baseline=judged.baseline,
            top1=100 * judged.top1,
            about_faces=about_faces,
            about_ranges=about_ranges,
            from_types=SPANS["strong_typing"].since[0],
        )
    )
