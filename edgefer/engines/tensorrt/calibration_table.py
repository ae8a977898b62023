"""Our ranges as a TensorRT calibration table, so that its builder needs no faces.

The table is text: a line that names the version and the algorithm, ``TRT-8602-EntropyCalibration2``, then one tensor a
line with its scale, the IEEE 754 bits of a float32 as eight hexadecimal digits, big-endian (TensorRT developer guide,
"INT8 Calibration Using Python"; the format as its samples read it, samples/common/EntropyCalibrator.h).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Final

import onnx

from edgefer.engines.tensorrt.compat import Target
from edgefer.errors import EdgeferError
from edgefer.quantize.graphview import GraphView
from edgefer.quantize.ranges import Ranges
from edgefer.quantize.thresholds import threshold

ALGORITHMS: Final = {"entropy": "EntropyCalibration2", "minmax": "MinMaxCalibration"}
_LEVELS: Final = 127.0


def table_scales(model: onnx.ModelProto, ranges: Ranges, method: str) -> dict[str, float]:
    """Tensor → ``max |x| / 127`` for every tensor of ``model`` that was observed, or only moves values that were."""
    view = GraphView(model)
    scales: dict[str, float] = {}
    for node in view.nodes:
        for name in node.output:
            sources = view.range_sources(name)
            if not all(source in ranges.histograms for source in sources):
                continue
            spans = [threshold(ranges[source], method, symmetric=True) for source in sources]
            amax = max(max(-low, high) for low, high in spans)
            if amax > 0:
                scales[name] = amax / _LEVELS
    return scales


def head_of(target: Target, calibrator: str) -> str:
    """The first line of a table: ``"TRT-8602-EntropyCalibration2"``."""
    return f"TRT-{target.number}-{ALGORITHMS[calibrator]}"


def to_table(scales: Mapping[str, float], target: Target, calibrator: str) -> str:
    """The table for ``target``'s ``calibrator`` (``"entropy"`` or ``"minmax"``).

    Raises:
        EdgeferError: a tensor's name has a colon or a line break, which the format cannot hold.
    """
    lines = [head_of(target, calibrator)]
    for name, scale in scales.items():
        if ":" in name or "\n" in name:
            raise EdgeferError(
                f"the tensor '{name}' cannot stand in a calibration table", hint="export the model again with edgefer"
            )
        lines.append(f"{name}: {struct.pack('>f', scale).hex()}")
    return "\n".join(lines) + "\n"


def from_table(text: str, origin: str) -> tuple[int, str, dict[str, float]]:
    """The version's number, the algorithm's name and the scales of a table; ``origin`` names the file in errors.

    Raises:
        EdgeferError: it is something else, or damaged; names the line.
    """
    lines = text.splitlines()
    head = lines[0].split("-") if lines else []
    numbered = len(head) == 3 and head[1].isascii() and head[1].isdigit()
    if not numbered or head[0] != "TRT" or head[2] not in ALGORITHMS.values():
        raise EdgeferError(
            f"{origin} is no calibration table of TensorRT: it begins with {lines[0][:40]!r}"
            if lines
            else f"{origin} is no calibration table of TensorRT: it is empty",
            hint="`build-engine --int8 --calibrator entropy --onnx-only` writes one beside the ONNX file",
        )
    scales = {}
    for number, line in enumerate(lines[1:], start=2):
        name, colon, digits = line.rpartition(": ")
        try:
            if not colon:
                raise ValueError("no colon")
            scales[name] = struct.unpack(">f", bytes.fromhex(digits))[0]
            if not 0 <= scales[name] < math.inf:
                raise ValueError("no scale")
        except (ValueError, struct.error) as cause:
            raise EdgeferError(
                f"{origin}, line {number} cannot be read: {line[:60]!r}", hint="the file is damaged: write it again"
            ) from cause
    if not scales:
        raise EdgeferError(f"{origin} has no scale of any tensor", hint="the file was cut short: write it again")
    return int(head[1]), head[2], scales
