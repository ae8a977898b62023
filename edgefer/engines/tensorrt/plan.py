"""What the first bytes of a plan say, for machines that cannot load it.

As ``printPlanVersion`` reads them in samples/common/sampleEngines.cpp of https://github.com/NVIDIA/TensorRT (10.3 and
later, where ``trtexec --getPlanVersionOnly`` prints them): a tag, the version of the serialisation, and for version 0
of it the four parts of the version that wrote it, from byte 24 on. TensorRT-RTX 1.7 writes the same with a tag of its
own, as plans that it built show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HEADER: Final = 28
"""Bytes that are looked at."""

_PRODUCTS: Final = {b"ftrt": "TensorRT", b"vtrt": "TensorRT-RTX"}
_VERSION_AT: Final = 24


@dataclass(frozen=True)
class PlanHeader:
    """``product``: whose plan it is, None for nobody's. ``version``: of what wrote it; None where it is not told."""

    product: str | None
    version: str | None


def read_header(content: bytes) -> PlanHeader:
    """Read the first :data:`HEADER` bytes of a plan; shorter content is none."""
    product = _PRODUCTS.get(content[:4])
    if len(content) < HEADER or product is None:
        return PlanHeader(None, None)
    if int.from_bytes(content[4:8], "little") != 0:
        return PlanHeader(product, None)
    return PlanHeader(product, ".".join(map(str, content[_VERSION_AT:HEADER])))
