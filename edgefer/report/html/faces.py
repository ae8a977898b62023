"""Faces whose answer changed, as pictures inside the page."""

from __future__ import annotations

import base64
import struct
import zlib
from html import escape

import numpy as np
from numpy.typing import NDArray

from edgefer.errors import EdgeferError
from edgefer.report.report import Report, Row

SHOWN = 48
"""Pictures of one engine at most."""


def changed_faces(report: Report, row: Row) -> str:
    """The first faces whose answer differs from the baseline's, with the truth and both answers, as HTML.

    Raises:
        EdgeferError: the report was not made here, so that its faces are not at hand.
    """
    if report.faces is None:
        raise EdgeferError("the judged faces are not at hand, only their figures", hint="make the page with the bench")
    before, after = report.baseline.predictions, row.predictions
    changed = np.flatnonzero(before.answers != after.answers)
    figures = []
    for index in changed[:SHOWN]:
        face = report.faces.images([int(index)])[0]
        truth, was, is_now = (after.classes[values[index]] for values in (after.labels, before.answers, after.answers))
        kind = "better" if is_now == truth else "worse" if was == truth else "moved"
        source = base64.b64encode(png(face)).decode("ascii")
        caption = f"{escape(was)} → <b>{escape(is_now)}</b><br>is {escape(truth)}"
        figures.append(
            f'<figure class="{kind}"><img alt="{escape(truth)}" src="data:image/png;base64,{source}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    if not figures:
        return "<p>No answer changed.</p>"
    more = f", the first {SHOWN} are shown" if len(changed) > SHOWN else ""
    note = f"<p>{len(changed):,} of {after.n:,} answers changed{more}: was → <b>is now</b>.</p>"
    return f'{note}<div class="faces">{"".join(figures)}</div>'


def png(face: NDArray[np.uint8]) -> bytes:
    """uint8 H×W×C, C = 1 or 3, as a PNG file (W3C PNG specification, sections 5 and 11)."""
    height, width, channels = face.shape
    lines = np.hstack([np.zeros((height, 1), np.uint8), face.reshape(height, width * channels)])  # filter 0: none
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
