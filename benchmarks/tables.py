#!/usr/bin/env python3
"""Results as Markdown: `python benchmarks/tables.py cpu` prints the table and puts it into its page.

The block between `<!-- cpu:begin -->` and `<!-- cpu:end -->` is replaced, if the page has one; the pages are in PAGES,
and what makes the block is the function `page` of the benchmark's own script. With --check nothing is written, and the
exit code is 1 if the page says something else than the results. The zoo's latencies also go to the file that
`edgefer models` reads.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import click
from common import REPOSITORY, RESULTS, one_error

from edgefer.atomic import write_text
from edgefer.errors import EdgeferError
from edgefer.progress import announce

PAGES = {
    "cpu": "docs/cpu.md",
    "zoo": "docs/zoo.md",
    "calibration": "docs/calibration.md",
    "rewriting": "docs/rewrite-passes.md",
    "quantisation": "docs/quantisation.md",
    "disturbance": "docs/benchmarking.md",
    "scale": "docs/benchmarking.md",
    "camera": "docs/camera.md",
    "cpp": "cpp_demo/app/README.md",
}
FIGURES = {"zoo": "edgefer/models/measured.json"}
"""Files of the package that are a part of the results: the function `figures` of the benchmark's script makes them."""


@click.command()
@click.argument("which", type=click.Choice(list(PAGES)))
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the page differs from the results.")
@click.option("--results", type=click.Path(path_type=Path), help="JSON; benchmarks/results/WHICH.json if absent.")
@click.option("--page", type=click.Path(path_type=Path), help="Another page than the benchmark's own.")
def main(which: str, check: bool, results: Path | None, page: Path | None) -> None:
    """Print a benchmark's results as Markdown, and keep its page equal to them."""
    own = page is None
    page = page or REPOSITORY / PAGES[which]
    with one_error():
        result = _read(results or RESULTS / f"{which}.json", which)
        block = block_of(which, result)
        if not check:
            click.echo(block)
            put_on_page(which, result, None if own and results is None else page)
            return
        text = page.read_text(encoding="utf-8")
        updated = replaced(text, which, block, str(page))
        if updated is None:
            raise EdgeferError(
                f"{page} has no block for {which}", hint=f"put <!-- {which}:begin --> and :end --> in it"
            )
        differing = [str(page)] if updated != text else []
        if results is None and which in FIGURES:
            file = REPOSITORY / FIGURES[which]
            if not file.is_file() or file.read_text(encoding="utf-8") != _figures(which, result):
                differing.append(str(file))
        for name in differing:
            announce(f"{name} differs from the results: python benchmarks/tables.py {which}")
        sys.exit(int(bool(differing)))


def _figures(which: str, result: dict[str, Any]) -> str:
    return str(importlib.import_module(which).figures(result))


def block_of(which: str, result: dict[str, Any]) -> str:
    """The results of the benchmark ``which`` as Markdown."""
    return str(importlib.import_module(which).page(result))


def put_on_page(which: str, result: dict[str, Any], page: Path | None = None) -> None:
    """Replace the block of ``which`` in its page, or in ``page``, if that has one.

    Raises:
        EdgeferError: the result is of a quick run.
    """
    own = page is None
    page = page or REPOSITORY / PAGES[which]
    text = page.read_text(encoding="utf-8")
    updated = replaced(text, which, block_of(which, result), str(page))
    if updated is not None and updated != text:
        if result["quick"]:
            raise EdgeferError("these are numbers of a quick run, which belong on no page", hint="run it whole")
        write_text(page, updated)
        announce(f"{page} is up to date")
    if own and which in FIGURES and not result["quick"]:
        write_text(REPOSITORY / FIGURES[which], _figures(which, result))


def replaced(text: str, which: str, block: str, origin: str) -> str | None:
    """``text`` with the block's content replaced; None if it has no such block.

    Raises:
        EdgeferError: only one of the two marks is there, or one twice, or in the wrong order.
    """
    begin, end = f"<!-- {which}:begin -->", f"<!-- {which}:end -->"
    if begin not in text and end not in text:
        return None
    if (text.count(begin), text.count(end)) != (1, 1) or text.index(begin) > text.index(end):
        raise EdgeferError(f"{origin} needs {begin} once, and {end} once after it")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{block}\n{end}{after}"


def _read(path: Path, which: str) -> dict[str, Any]:
    hint = f"python benchmarks/{which}.py makes it"
    if not path.is_file():
        raise EdgeferError(f"there are no results {path}", hint=hint)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as cause:
        raise EdgeferError(f"{path} is not JSON: {cause}", hint=hint) from cause
    if not isinstance(content, dict) or content.get("benchmark") != which:
        raise EdgeferError(f"{path} holds no results of benchmarks/{which}.py", hint=hint)
    return content


if __name__ == "__main__":
    main()
