"""Several reports beside each other, every network with what became of it since the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgefer.errors import EdgeferError
from edgefer.report.against import Change, change, check_same_classes, differences, same_faces
from edgefer.report.cells import NOT_MEASURED, digits, size_text
from edgefer.report.document import Document, Entry, Estimate
from edgefer.report.terminal import WIDTH, as_printable

HEAD = ("", "p50 ms", "slower", "p95 ms", "size", "top-1 %", "lost, points")


def comparison(documents: Sequence[Document]) -> dict[str, Any]:
    """JSON-ready: ``reports`` (with ``differs``, what limits the comparison) and ``rows``.

    Raises:
        EdgeferError: fewer than two reports, or one of other classes than the first.
    """
    first = _checked(documents)
    reports = [
        {
            "report": str(document.path),
            "created": document.created,
            "data": document.data,
            "same_faces": same_faces(first, document),
            "invalid": list(document.invalid),
            "differs": [] if document is first else list(differences(first, document)),
        }
        for document in documents
    ]
    rows = [_row_json(document, entry, found) for document, entry, found in _rows(documents)]
    return {"reports": reports, "rows": rows}


def print_comparison(documents: Sequence[Document], console: Console | None = None) -> None:
    """Print the table on stdout, or on ``console``.

    Raises:
        EdgeferError: as :func:`comparison`.
    """
    first = _checked(documents)
    out = Console() if console is None else console
    if not out.is_terminal:
        out.width = max(out.width, WIDTH)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column, title in enumerate(HEAD):
        table.add_column(as_printable(title, out), justify="right" if column else "left", overflow="fold")
    current: Document | None = None
    for document, entry, found in _rows(documents):
        if document is not current:
            table.add_row(Text(as_printable(document.path.name, out), style="bold"))
            current = document
        table.add_row(*(Text(as_printable(cell, out)) for cell in _cells(entry, found)))
    out.print(table)
    for line in _notes(first, documents):
        out.print(as_printable(line, out), markup=False, highlight=False, soft_wrap=True)


def _checked(documents: Sequence[Document]) -> Document:
    if len(documents) < 2:
        raise EdgeferError(
            f"a comparison needs two or more reports, not {len(documents)}", hint="edgefer compare A.json B.json"
        )
    first = documents[0]
    for other in documents[1:]:
        check_same_classes(first, other)
    return first


def _rows(documents: Sequence[Document]) -> Iterator[tuple[Document, Entry, Change | None]]:
    first = documents[0]
    for document in documents:
        for entry in document.entries:
            before = None if document is first else first.entry(entry.name)
            yield document, entry, None if before is None else change(first, document, before, entry)


def _row_json(document: Document, entry: Entry, found: Change | None) -> dict[str, Any]:
    return {
        "report": str(document.path),
        "name": entry.name,
        "latency_ms": {percent: _pair(value) for percent, value in entry.latency.items()},
        "top1": _pair(entry.top1),
        "size_bytes": entry.size_bytes,
        "slowdown": None if found is None else {p: _pair(value) for p, value in found.slowdown.items()},
        "drop_pp": None if found is None else {**_pair(found.drop_pp), "paired": found.is_paired},
    }


def _pair(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "ci95": list(estimate.ci95)}


def _cells(entry: Entry, found: Change | None) -> Iterator[str]:
    p50, p95 = entry.latency.get("50"), entry.latency.get("95")
    slower = None if found is None else found.slowdown.get("50")
    yield f"  {entry.name}"
    yield digits(None if p50 is None else p50.value)
    yield NOT_MEASURED if slower is None else f"{slower.value - 1:+.0%} {_ends(slower, 100, -1)}"
    yield digits(None if p95 is None else p95.value)
    yield size_text(entry.size_bytes)
    yield f"{100 * entry.top1.value:.2f}"
    yield NOT_MEASURED if found is None else f"{found.drop_pp.value:+.2f} {_ends(found.drop_pp)}"


def _ends(estimate: Estimate, factor: float = 1, shift: float = 0) -> str:
    low, high = (factor * (end + shift) for end in estimate.ci95)
    return f"{low:+.0f}…{high:+.0f}" if factor > 1 else f"{low:+.2f}…{high:+.2f}"


def _notes(first: Document, documents: Sequence[Document]) -> Iterator[str]:
    yield "slower, lost: against the same row of the first report, with 95 % intervals."
    for document in documents:
        for reason in document.invalid:
            yield f"invalid: {document.path.name}: {reason}"
        if document is first:
            continue
        for difference in differences(first, document):
            yield f"warning: latencies are not comparable as they stand: {difference}"
        if not same_faces(first, document):
            yield f"warning: {document.path.name} judged other faces: what it lost is not paired"
