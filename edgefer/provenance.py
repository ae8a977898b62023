"""The faces that a file has met, kept so that whoever measures it can leave them out.

Weights say which faces trained them and chose among their epochs; manifests and calibration tables say which ones set
the ranges, and which chose among candidates. Kept are the first :data:`SEEN_DIGITS` digits of each face's hash
(:meth:`edgefer.data.FaceSet.face_hashes`), as a set: with 20,000 of them, one strange face in 55 million is taken for
one that was met.

As text, a set is ``sorted40:`` and the base85 (RFC 1924) of a zlib stream (RFC 1950). The stream holds the differences
of the sorted 40-bit numbers, the first from 0, as 5 bytes each: first the lowest byte of every difference, last the
highest. 20,000 faces take 90 kB.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SEEN_DIGITS: Final = 10
"""Number of hexadecimal digits kept of the hash of each face that was met: 40 bits, 5 bytes."""

_TAG: Final = "sorted40:"
_BYTES: Final = SEEN_DIGITS // 2
_MAX_FACES: Final = 50_000_000
"""Faces that a text may hold: what is larger is no honest file."""


def beginnings(hashes: Iterable[str]) -> tuple[str, ...]:
    """The first :data:`SEEN_DIGITS` digits of each hash, sorted, each once."""
    return tuple(sorted({digits[:SEEN_DIGITS] for digits in hashes}))


def begin_as(hashes: Sequence[str], known: Iterable[str]) -> NDArray[np.bool_]:
    """Whether each of ``hashes`` begins as one of ``known``, bool N."""
    found: NDArray[np.bool_] = np.isin(
        np.array(hashes, dtype=f"<U{SEEN_DIGITS}"), np.array(beginnings(known), dtype=f"<U{SEEN_DIGITS}")
    )
    return found


def packed(hashes: Iterable[str]) -> str:
    """The text of the :func:`beginnings` of ``hashes``; :func:`unpacked` is its inverse."""
    numbers = np.array([int(digits, 16) for digits in beginnings(hashes)], dtype="<u8")
    differences = np.diff(numbers, prepend=np.zeros(1, "<u8")).astype("<u8")
    planes = differences.view(np.uint8).reshape(-1, 8)[:, :_BYTES].T
    return _TAG + base64.b85encode(zlib.compress(planes.tobytes(), 9)).decode("ascii")


def unpacked(content: Any) -> tuple[str, ...]:
    """The :func:`beginnings` that ``content`` holds: text, or a list of digits, as files had before.

    Raises:
        TypeError, ValueError: it is something else, or damaged.
    """
    if not isinstance(content, str):
        return _checked(str(digits) for digits in content)
    if not content.startswith(_TAG):  # weights of before: base64 of 5 bytes for each face
        digits = base64.b64decode(content, validate=True).hex()
        return _checked(digits[i : i + SEEN_DIGITS] for i in range(0, len(digits), SEEN_DIGITS))
    stream = zlib.decompressobj()
    try:
        planes = stream.decompress(base64.b85decode(content[len(_TAG) :]), _BYTES * _MAX_FACES)
    except zlib.error as cause:
        raise ValueError(f"faces: {cause}") from cause
    if not stream.eof or len(planes) % _BYTES:
        raise ValueError(f"{len(planes)} bytes of faces end in the middle")
    differences = np.zeros((len(planes) // _BYTES, 8), np.uint8)
    differences[:, :_BYTES] = np.frombuffer(planes, np.uint8).reshape(_BYTES, -1).T
    return tuple(f"{number:0{SEEN_DIGITS}x}" for number in np.cumsum(differences.view("<u8").ravel()).tolist())


def _checked(hashes: Iterable[str]) -> tuple[str, ...]:
    found = beginnings(hashes)
    for digits in found:
        if len(digits) < SEEN_DIGITS:
            raise ValueError(f"'{digits}' has not the {SEEN_DIGITS} digits of a face")
        int(digits, 16)
    return found
