"""What the first bytes of a TensorRT plan say, for machines without TensorRT.

As ``printPlanVersion`` reads them in samples/common/sampleEngines.cpp of https://github.com/NVIDIA/TensorRT (10.3 and
later, where ``trtexec --getPlanVersionOnly`` prints them): a tag, the version of the serialisation, and for version 0
of it the four parts of TensorRT's version from byte 24 on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HEADER: Final = 28
"""Bytes that are looked at."""

_TAG: Final = b"ftrt"
_VERSION_AT: Final = 24


@dataclass(frozen=True)
class PlanHeader:
    """``is_plan``: whether the tag is TensorRT's. ``version``: of the TensorRT that wrote it; None where not told."""

    is_plan: bool
    version: str | None


def read_header(content: bytes) -> PlanHeader:
    """Read the first :data:`HEADER` bytes of a plan; shorter content is none."""
    if len(content) < HEADER or not content.startswith(_TAG):
        return PlanHeader(False, None)
    if int.from_bytes(content[4:8], "little") != 0:
        return PlanHeader(True, None)
    return PlanHeader(True, ".".join(map(str, content[_VERSION_AT:HEADER])))
