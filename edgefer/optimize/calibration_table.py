"""Calibration tables: what calibration saw, as reviewable text, so that INT8 engines are built without any image.

JSON lines. The first says what the table is for: SHA-256 of the weights, of the contract (without its lineage) and of
the graph's layers, and of which faces it was made. Then one line per tensor: the layer that makes it, its extremes, the
range that the method chose, and what the other methods would have chosen. Then one line per component of the
equalisation. The last line says which faces they were (:mod:`edgefer.provenance`), so that nobody evaluates on them;
there are no pixels. Numbers are float32 values, in as few digits as tell them apart.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgefer.atomic import write_text
from edgefer.contract import Contract
from edgefer.errors import EdgeferError
from edgefer.manifest import Calibration, calibration_from
from edgefer.optimize.settings import recipes_folder
from edgefer.quantize.equalise import Scales
from edgefer.quantize.graphview import GraphView, layer_name
from edgefer.quantize.ranges import METHODS, Chosen, Ranges

SUFFIX = ".calibration.jsonl"
_AGAIN = "make it again: `edgefer calibrate`"
_FORMAT, _VERSION = "edgefer.calibration-table", 2
_PLUMBING = frozenset({"Cast", "Transpose", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Constant"})
"""Operators that simplifiers exchange for each other: they compute nothing and are left out of the signature."""


@dataclass(frozen=True)
class CalibrationTable:
    """A calibration table and what it belongs to.

    ``origin`` is what messages call it; ``layers`` says which layer makes each tensor, for whoever reads the text.
    """

    architecture: str
    weights_sha256: str
    contract_sha256: str
    graph_sha256: str
    calibration: Calibration
    scales: Scales
    ranges: Ranges
    origin: str = "the calibration table"
    layers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, contract: Contract, model: onnx.ModelProto, scales: Scales, ranges: Ranges, calibration: Calibration
    ) -> CalibrationTable:
        """A table for the network of ``contract``, whose canonical graph is ``model``."""
        weights = contract.lineage.get("weights_sha256", "")
        if not weights:
            raise EdgeferError(
                "the model does not say which weights it has, so that a table could not be told from another's",
                hint="export it again from a weights file",
            )
        record = replace(calibration, origin=Path(calibration.origin).name)  # a table travels, folders do not
        layers = {name: layer_name(node) for name, node in GraphView(model).producer.items() if name in ranges.tensors}
        graph = signature(model)
        return cls(
            contract.architecture, weights, contract_sha256(contract), graph, record, scales, ranges, layers=layers
        )

    def check(self, contract: Contract, graph: str) -> None:
        """Refuse a model that the table was not made for.

        Raises:
            EdgeferError: says which of weights, contract and graph differ.
        """
        found = {
            "weights": (self.weights_sha256, contract.lineage.get("weights_sha256", "")),
            "contract": (self.contract_sha256, contract_sha256(contract)),
            "graph": (self.graph_sha256, graph),
        }
        differing = [
            f"{what} (the table's {one[:12]}…, the model's {other[:12] or 'unknown'}…)"
            for what, (one, other) in found.items()
            if one != other
        ]
        if differing:
            raise EdgeferError(
                f"{self.origin} is another model's: different {' and '.join(differing)}",
                hint="give faces (--calib DATA), or make a table for this model: `edgefer calibrate`",
            )

    def to_text(self) -> str:
        """The text that :func:`read_table` reads; the same table gives the same text."""
        record = self.calibration.to_dict()
        hashes = record.pop("face_hashes")
        header = {
            "format": _FORMAT,
            "version": _VERSION,
            "architecture": self.architecture,
            "weights_sha256": self.weights_sha256,
            "contract_sha256": self.contract_sha256,
            "graph_sha256": self.graph_sha256,
            "observed_sha256": self.ranges.model,
            "calibration": record,
            "tensors": len(self.ranges.tensors),
            "components": len(self.scales),
        }
        lines: list[dict[str, Any]] = [header]
        for name, seen in self.ranges.tensors.items():
            lines.append(_row(name, self.layers.get(name, ""), Chosen.of(seen), self.calibration.method))
        lines += [{"component": name, "scales": [_short(s) for s in scales]} for name, scales in self.scales.items()]
        lines.append({"face_hashes": hashes})
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the text, atomically.

        Raises:
            EdgeferError: the name is none of a table; see :func:`check_table_path`.
        """
        check_table_path(path)
        write_text(path, self.to_text())


def check_table_path(path: str | os.PathLike[str]) -> None:
    """Refuse a name that says another format.

    Raises:
        EdgeferError: it does not end in ``.jsonl``.
    """
    file = Path(path)
    if file.suffix != ".jsonl":
        likely = f"{file.name.split('.')[0] or 'model'}{SUFFIX}"
        raise EdgeferError(
            f"a calibration table is a file of JSON lines, and {file} does not end in .jsonl",
            hint=f"-o {file.with_name(likely) if file.name else likely}",
        )


def read_table(path: str | os.PathLike[str]) -> CalibrationTable:
    """Read what :meth:`CalibrationTable.write` wrote.

    Raises:
        EdgeferError: there is no such file, or it is something else, damaged or cut short.
    """
    file = Path(path)
    if not file.is_file():
        raise EdgeferError(f"there is no calibration table {file}", hint="`edgefer calibrate` makes one")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        raise EdgeferError(f"{file} cannot be read as text: {cause}", hint=_AGAIN) from cause
    lines = text.splitlines()
    number = 0
    try:
        header = _object(lines, 0)
        if (header["format"], header["version"]) != (_FORMAT, _VERSION):
            raise ValueError(f"format {header['format']!r}, version {header['version']!r}")
        record = header["calibration"]
        tensors: dict[str, Chosen] = {}
        layers: dict[str, str] = {}
        for number in range(1, 1 + int(header["tensors"])):
            row = _object(lines, number)
            tensors[str(row["tensor"])] = _chosen(row, str(record["method"]))
            layers[str(row["tensor"])] = str(row["layer"])
        scales: dict[str, NDArray[np.float32]] = {}
        for number in range(1 + len(tensors), 1 + len(tensors) + int(header["components"])):
            row = _object(lines, number)
            scales[str(row["component"])] = np.asarray(row["scales"], dtype=np.float32)
        number += 1
        calibration = calibration_from({**record, "face_hashes": _object(lines, number)["face_hashes"]})
        ranges = Ranges(str(header["observed_sha256"]), calibration.n, tensors)
        keys = [str(header[f"{what}_sha256"]) for what in ("weights", "contract", "graph")]
        if len(lines) > number + 1:
            raise ValueError(f"{len(lines)} lines, and it announces {number + 1}")
        number = 0
        architecture = str(header["architecture"])
    except (AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as cause:
        raise EdgeferError(
            f"{file} is no calibration table that edgefer wrote: line {number + 1}: {type(cause).__name__}: {cause}",
            hint=_AGAIN,
        ) from cause
    return CalibrationTable(architecture, keys[0], keys[1], keys[2], calibration, scales, ranges, str(file), layers)


def _row(tensor: str, layer: str, seen: Chosen, method: str) -> dict[str, Any]:
    """The line of one tensor; ``range`` is what the table's method chose, ``symmetric`` its magnitude around zero."""
    low, high, magnitude = seen.spans[method]
    return {
        "tensor": tensor,
        "layer": layer,
        "min": _short(seen.minimum),
        "max": _short(seen.maximum),
        "range": [_short(low), _short(high)],
        "symmetric": _short(magnitude),
        "by_other_methods": {name: list(map(_short, span)) for name, span in seen.spans.items() if name != method},
    }


def _short(value: float | np.floating[Any]) -> float:
    """A float32 value as the float with the fewest digits that rounds to it."""
    return float(str(np.float32(value)))


def _exact(value: Any) -> float:
    return float(np.float32(value))


def _chosen(row: dict[str, Any], method: str) -> Chosen:
    """What :func:`_row` wrote; a KeyError, TypeError or ValueError where it is something else."""
    given = {**row["by_other_methods"], method: [*row["range"], row["symmetric"]]}
    spans: dict[str, tuple[float, float, float]] = {}
    for name in METHODS:
        low, high, magnitude = map(_exact, given[name])
        if not (np.isfinite([low, high, magnitude]).all() and low <= 0 <= high and magnitude >= 0):
            raise ValueError(f"{low:g} to {high:g}, or ±{magnitude:g}, is no range of '{row['tensor']}' by {name}")
        spans[name] = low, high, magnitude
    return Chosen(_exact(row["min"]), _exact(row["max"]), spans)


def _object(lines: list[str], number: int) -> dict[str, Any]:
    content = json.loads(lines[number])
    if not isinstance(content, dict):
        raise TypeError(f"an object is expected, not {type(content).__name__}")
    return content


def shipped_table(architecture: str, weights_sha256: str) -> CalibrationTable | None:
    """The table that ships for these very weights of ``architecture``, or None."""
    folder = recipes_folder()
    files = [folder / f"{architecture}{SUFFIX}", *sorted(folder.glob(f"{architecture}_*{SUFFIX}"))]
    tables = (read_table(file) for file in files if file.is_file())
    return next((table for table in tables if table.weights_sha256 == weights_sha256), None)


def contract_sha256(contract: Contract) -> str:
    """SHA-256 of everything in the contract but the lineage of the weights."""
    content = {key: value for key, value in contract.to_dict().items() if key != "lineage"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def signature(model: onnx.ModelProto) -> str:
    """SHA-256 of the layers of a canonical graph: operators, numbers, settings and the shapes of their constants.

    Values are left out (another version of torch folds a batch norm into other last digits), and so is what only moves
    values: simplifiers differ in it, and each operator is counted for itself. Names of nodes are left out too.
    """
    view = GraphView(model)
    rows = []
    counts: Counter[str] = Counter()
    for node in view.nodes:
        name = f"{node.op_type}_{counts[node.op_type]}"
        counts[node.op_type] += 1
        if node.op_type in _PLUMBING:
            continue
        settings = {a.name: str(onnx.helper.get_attribute_value(a)) for a in node.attribute}
        shapes = [list(view.constant_shape(name) or ()) for name in node.input if view.constant_shape(name) is not None]
        rows.append([name, node.op_type, settings, shapes])
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
