"""How every benchmark ends: results in one file, whole or not at all, and whether they are to be believed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edgefer.atomic import write_text
from edgefer.errors import EdgeferError
from edgefer.progress import announce


@contextmanager
def one_error() -> Iterator[None]:
    """Print an :class:`EdgeferError` as the commands do, and end with its exit code."""
    try:
        yield
    except EdgeferError as fault:
        announce(f"error: {fault}")
        sys.exit(fault.exit_code)


def destination(results: Path, output: Path | None, *, part: bool) -> Path:
    """Where results go: ``output``, or ``results``, which pages are made of.

    Raises:
        EdgeferError: ``results`` would get a part of a run, or a quick one.
    """
    if output is None and part:
        raise EdgeferError(
            f"{results.name} holds whole runs, and this one is not", hint="--output FILE.json keeps it apart"
        )
    return output or results


def conclude(result: Mapping[str, Any], path: Path, plot: Callable[[dict[str, Any], Path], None] | None = None) -> None:
    """Write ``result`` as JSON, and its picture beside it; say what was demanded of it, and what kept it busy."""
    write_text(path, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    if plot is not None:
        plot(dict(result), path.with_suffix(".png"))
    announce(f"written: {path}" if plot is None else f"written: {path} and {path.with_suffix('.png').name}")
    for reason in result.get("busy", ()):
        announce(f"warning: seconds are not to be believed: {reason}")
    for demand in result.get("demands", ()):
        click.echo(f"{'PASS' if demand['passed'] else 'FAIL'}: {demand['demand']}: {demand['measured']}")
