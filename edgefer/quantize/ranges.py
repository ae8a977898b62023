"""Histograms of a network's activations, and their text form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgefer.errors import EdgeferError
from edgefer.quantize.histogram import Histogram

_FORMAT = "edgefer.ranges"
_VERSION = 1


@dataclass(frozen=True)
class Ranges:
    """What calibration saw.

    Attributes:
        model: :func:`~edgefer.quantize.graphview.fingerprint` of the network that was observed.
        faces: how many faces went through it.
        histograms: tensor name to :class:`Histogram`.
        origin: anything that the caller wants to be able to read later, e.g. the dataset's fingerprint; text to text.
    """

    model: str
    faces: int
    histograms: Mapping[str, Histogram]
    origin: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, tensor: str) -> Histogram:
        """The histogram of ``tensor``.

        Raises:
            EdgeferError: it was not observed.
        """
        if tensor not in self.histograms:
            raise EdgeferError(
                f"the ranges hold no tensor '{tensor}' ({len(self.histograms)} others, of model {self.model[:12]}…)",
                hint="they belong to another model or another export of it; calibrate this one",
            )
        return self.histograms[tensor]

    def to_text(self) -> str:
        """JSON lines: a header, then one tensor a line. The same ranges give the same text."""
        header = {
            "format": _FORMAT,
            "version": _VERSION,
            "model": self.model,
            "faces": self.faces,
            "tensors": len(self.histograms),
            "origin": dict(sorted(self.origin.items())),
        }
        lines = [header, *({"tensor": name, **h.to_dict()} for name, h in self.histograms.items())]
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    @classmethod
    def from_text(cls, text: str, origin: str = "the range table", above: int = 0) -> Ranges:
        """Read what :meth:`to_text` wrote; ``origin`` names the file in errors, with so many lines ``above`` the text.

        Raises:
            EdgeferError: it is something else, damaged, or cut short; names the line.
        """
        lines = text.splitlines()
        header = _line(lines, 0, origin, above)
        if header.get("format") != _FORMAT or header.get("version") != _VERSION:
            raise EdgeferError(
                f"{origin} is no range table of version {_VERSION}: its first line has format "
                f"{header.get('format')!r}, version {header.get('version')!r}",
                hint="calibrate again, or take the edgefer that wrote it",
            )
        histograms: dict[str, Histogram] = {}
        for number in range(1, len(lines)):
            content = _line(lines, number, origin, above)
            try:
                histograms[str(content["tensor"])] = Histogram.from_dict(content)
            except (KeyError, OverflowError, TypeError, ValueError) as cause:
                raise _damaged(origin, above + number, f"{type(cause).__name__}: {cause}") from cause
        if len(histograms) != header.get("tensors"):
            raise _damaged(
                origin, above + len(lines), f"{header.get('tensors')} tensors announced, {len(histograms)} there"
            )
        try:
            return cls(str(header["model"]), int(header["faces"]), histograms, dict(header["origin"]))
        except (KeyError, TypeError, ValueError) as cause:
            raise _damaged(origin, above, f"{type(cause).__name__}: {cause}") from cause


def _line(lines: list[str], number: int, origin: str, above: int) -> dict[str, Any]:
    if number >= len(lines):
        raise EdgeferError(f"{origin} is empty", hint="calibrate again")
    try:
        content = json.loads(lines[number])
    except json.JSONDecodeError as cause:
        raise _damaged(origin, above + number, str(cause)) from cause
    if not isinstance(content, dict):
        raise _damaged(origin, above + number, f"an object is expected, not {type(content).__name__}")
    return content


def _damaged(origin: str, number: int, reason: str) -> EdgeferError:
    return EdgeferError(
        f"{origin}, line {number + 1}: {reason}", hint="the file is damaged or cut short; calibrate again"
    )
