#!/usr/bin/env python3
"""Results as Markdown: `python benchmarks/tables.py cpu` prints the table and puts it into its page, README.md.

The block between `<!-- cpu:begin -->` and `<!-- cpu:end -->` is replaced, if the page has one; the pages are in PAGES.
With --check nothing is written, and the exit code is 1 if the page says something else than the results.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from camera_table import camera_table
from cpp_table import cpp_table
from cpu_table import cpu_table, number, ratio
from quantisation_table import quantisation_table
from zoo_table import zoo_table

from edgefer.atomic import write_text
from edgefer.errors import EdgeferError
from edgefer.progress import announce

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = {
    "cpu": "README.md",
    "zoo": "README.md",
    "calibration": "docs/calibration.md",
    "rewriting": "docs/rewrite-passes.md",
    "quantisation": "docs/quantisation.md",
    "scale": "docs/benchmarking.md",
    "camera": "docs/camera.md",
    "cpp": "cpp_demo/app/README.md",
}


@click.command()
@click.argument("which", type=click.Choice(list(PAGES)))
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the page differs from the results.")
@click.option("--results", type=click.Path(path_type=Path), help="JSON; benchmarks/results/WHICH.json if absent.")
@click.option("--page", type=click.Path(path_type=Path), help="Another page than the benchmark's own.")
def main(which: str, check: bool, results: Path | None, page: Path | None) -> None:
    """Print a benchmark's results as Markdown, and keep its page equal to them."""
    page = page or REPOSITORY / PAGES[which]
    try:
        result = _read(results or REPOSITORY / "benchmarks" / "results" / f"{which}.json", which)
        block = RENDERERS[which](result)
        text = page.read_text(encoding="utf-8")
        updated = replaced(text, which, block, str(page))
        if check:
            _exit_checked(text, updated, which, page)
        click.echo(block)
        put_on_page(which, result, page)
    except EdgeferError as fault:
        announce(f"error: {fault}")
        sys.exit(fault.exit_code)


def put_on_page(which: str, result: dict[str, Any], page: Path | None = None) -> None:
    """Replace the block of ``which`` in its page, or in ``page``, if that has one.

    Raises:
        EdgeferError: the result is of a quick run.
    """
    page = page or REPOSITORY / PAGES[which]
    text = page.read_text(encoding="utf-8")
    updated = replaced(text, which, RENDERERS[which](result), str(page))
    if updated is None or updated == text:
        return
    if result["quick"]:
        raise EdgeferError("these are figures of a quick run, which belong on no page", hint="run it whole")
    write_text(page, updated)
    announce(f"{page} is up to date")


def _exit_checked(text: str, updated: str | None, which: str, page: Path) -> None:
    if updated is None:
        raise EdgeferError(f"{page} has no block for {which}", hint=f"put <!-- {which}:begin --> and :end --> in it")
    if updated != text:
        announce(f"{page} differs from the results: python benchmarks/tables.py {which}")
    sys.exit(int(updated != text))


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


def calibration_table(result: dict[str, Any]) -> str:
    """A row a calibrator: seconds and MB at each number of faces, and the demands."""
    counts = sorted({row["faces"] for row in result["rows"] if row["calibrator"] != "edgefer"})
    found = {(row["calibrator"], row["faces"]): row for row in result["rows"]}
    names = list(dict.fromkeys(row["calibrator"] for row in result["rows"]))
    lines = [
        ["", *(f"{count:,} faces" for count in counts)],
        [":--", *("--:" for _ in counts)],
        *([_title(name), *(_seconds_and_memory(found[name, count]) for count in counts)] for name in names),
    ]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = [
        f"{'Held' if d['passed'] else '**Not held**'}: {d['demand']} ({d['measured']})." for d in result["demands"]
    ]
    notes += _aims(found, max(counts, default=0))
    notes += [] if result["quiet"] else ["**Measured on a busy machine: seconds are not to be believed.**"]
    return "\n\n".join([table, *notes])


def _aims(found: dict[tuple[str, int], dict[str, Any]], count: int) -> list[str]:
    """How far ours is below onnxruntime's Entropy, where both were run."""
    ours, theirs = (found.get((name, count), {"skipped": ""}) for name in ("edgefer", "Entropy"))
    if "skipped" in ours or "skipped" in theirs:
        return []
    said = []
    for what, key, aim in (("time", "seconds", 8), ("memory", "peak_bytes", 25)):
        times = theirs[key] / ours[key]
        held = "Held" if times >= aim else "**Not held**"
        said.append(
            f"{held}: at most 1/{aim} of the {what} of onnxruntime's Entropy at {count:,} faces (1/{times:.1f})."
        )
    return said


def _title(calibrator: str) -> str:
    return "edgefer, all methods in one pass" if calibrator == "edgefer" else f"onnxruntime {calibrator}"


def _seconds_and_memory(row: dict[str, Any]) -> str:
    if "skipped" in row:
        return f"not run: {row['skipped']}"
    return f"{row['seconds']:.1f} s, {row['peak_bytes'] / 1e6:,.0f} MB"


def rewriting_table(result: dict[str, Any]) -> str:
    """A table a network: an engine a row, a pass a column."""
    parts = [
        f"{result['environment']['cpu']}, batch 1, one thread, random weights. Speed-up of each pass over the same "
        "engine of the plain graph, with 95 % intervals."
    ]
    parts += [] if result["quiet"] else ["**Measured on a busy machine: not to be believed.**"]
    for name, network in result["networks"].items():
        found = {(row["engine"], row["graph"]): row for row in network["rows"]}
        graphs = list(dict.fromkeys(row["graph"] for row in network["rows"] if row["graph"] != "plain"))
        places = {**network["places"], "all passes": 0}
        heads = [f"{graph} ({places[graph]}×)" if places[graph] else graph for graph in graphs]
        lines = [["", "plain, ms", *heads, "all, over plain onnxruntime FP32"]]
        lines.append([":--"] + ["--:"] * (len(lines[0]) - 1))
        for engine in dict.fromkeys(row["engine"] for row in network["rows"]):
            rows = [found[engine, graph] for graph in graphs]
            cells = [number(found[engine, "plain"]["p50_ms"]), *(ratio(row["gain"], "", "-") for row in rows)]
            lines.append([engine, *cells, ratio(rows[-1]["over_plain_onnxruntime"], "", "-")])
        parts += [f"#### {name}", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    return "\n\n".join(parts)


def scale_table(result: dict[str, Any]) -> str:
    """A line a count: seconds and memory of each task, and what the demands say."""
    text = (
        f"{result['environment']['cpu']}, {result['environment']['cores']} cores; {result['model']}, synthetic faces."
    )
    lines = [["faces", "evaluation, s", "MB", "calibration, s", "MB"], ["--:"] * 5]
    for count in sorted({row["faces"] for row in result["rows"]}):
        found = {row["task"]: row for row in result["rows"] if row["faces"] == count}
        cells = [f"{count:,}"]
        for task in ("evaluate", "calibrate"):
            cells += [f"{found[task]['seconds']:,.1f}", f"{found[task]['peak_bytes'] / 1e6:,.1f}"]
        lines.append(cells)
    demands = [f"- {d['demand']}: {d['measured']}{'' if d['passed'] else ' (missed)'}" for d in result["demands"]]
    mark = [] if result["quiet"] else ["**Measured on a busy machine: seconds are not to be believed.**"]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    picture = "![Seconds and memory over the number of faces](../benchmarks/results/scale.png)"
    title = ["## How cost grows", text, *mark, table, picture]
    return "\n\n".join([*title, "\n".join(demands), "Measured by `python benchmarks/scale.py`."])


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


RENDERERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "cpu": cpu_table,
    "zoo": zoo_table,
    "calibration": calibration_table,
    "rewriting": rewriting_table,
    "quantisation": quantisation_table,
    "scale": scale_table,
    "camera": camera_table,
    "cpp": cpp_table,
}


if __name__ == "__main__":
    main()
