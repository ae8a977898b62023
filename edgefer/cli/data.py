"""Commands that look things up: data and models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefer.cli import options
from edgefer.cli.help import Group, command, option, section

if TYPE_CHECKING:
    from edgefer.data import ReadSettings
    from edgefer.data.inspection import DataInspection


FAILED = 1
"""Exit code of ``--strict`` where something is wrong."""


@click.group(cls=Group)
def data() -> None:
    """Look into a data set: counts, duplicates, faults."""


@data.command(examples=("edgefer data inspect fer2013.csv", "edgefer data inspect faces/ --sheet faces.png --strict"))
@click.argument("path")
@section("Reading DATA", options.votes, options.reading)
@section(
    "Output",
    option("--sheet", type=options.PATH, help="Write a contact sheet: the first faces of each class (PNG)."),
    option(
        "--per-class",
        type=click.IntRange(min=1),
        default=8,
        show_default=True,
        help="Faces per class on the sheet.",
        needs="--sheet",
    ),
    option("--strict", is_flag=True, help="Exit with 1 if something is wrong."),
    options.as_json,
)
@click.pass_context
def inspect(
    context: click.Context,
    path: str,
    votes: str | None,
    reading: ReadSettings | None,
    sheet: Path | None,
    per_class: int,
    strict: bool,
    as_json: bool,
) -> None:
    """Count faces and duplicates, and list what is wrong.

    PATH is a FER2013 or AffectNet csv, an npz, or one folder per class. Faces are counted per split and class.
    """
    from edgefer.data import contact_sheet, open_dataset
    from edgefer.data.inspection import inspect_faces

    found, faces = inspect_faces(open_dataset(path, votes=votes, inspecting=True, reading=reading))
    if sheet is not None:
        contact_sheet(faces, sheet, per_class=per_class)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    else:
        _print(found, sheet)
    if strict and found.problems:
        context.exit(FAILED)


def _print(found: DataInspection, sheet: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 100, highlight=False, markup=False)
    console.print(f"{found.origin}: {found.faces:,} faces, {len(found.classes)} classes\n")
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for split in (*found.counts, *(("all",) if len(found.counts) > 1 else ())):
        table.add_column(split, justify="right")
    columns = list(found.counts.values())
    rows = [(name, [counts[name] for counts in columns]) for name in found.classes]
    rows.append(("all", [sum(counts.values()) for counts in columns]))
    for name, values in rows:
        total = (*values, sum(values)) if len(values) > 1 else values
        table.add_row(name, *(f"{value:,}" for value in total))
    console.print(table)
    console.print(f"\nsizes: {', '.join(f'{size} ({count:,})' for size, count in list(found.sizes.items())[:6])}")
    for title, repeats in (("same pixels", found.exact), ("same or nearly so", found.near)):
        counts = [f"{count:,} in {split}" for split, count in {**repeats.within, **repeats.across}.items() if count]
        console.print(f"{title}: {', '.join(counts) or 'none'}")
    console.print(f"left out: {', '.join(f'{why} ({n:,})' for why, n in found.dropped.items()) or 'none'}")
    for fault in found.unreadable_listed:
        console.print(f"unreadable: {fault}", soft_wrap=True)
    if found.unreadable > len(found.unreadable_listed):
        console.print(f"unreadable: {found.unreadable - len(found.unreadable_listed):,} more")
    if sheet is not None:
        console.print(f"contact sheet: {sheet}", soft_wrap=True)
    console.print("\nnothing wrong was found" if not found.problems else "\nwhat is wrong:")
    for problem in found.problems:
        console.print(f"  {problem}", soft_wrap=True)


_RIGHT = ("params 7 · 8 classes", "MACs")


@command(examples=("edgefer models", "edgefer models | grep xception"))
def models() -> None:
    """List the networks, their size, weights and accuracy.

    Parameters are given for 7 and 8 classes; any number from 2 works. Weights that ship are used by default, and can
    be named where weights are asked for: NAME, NAME_ferplus (FER+'s eight classes) or NAME_SIZE (larger faces).
    """
    from rich.console import Console
    from rich.table import Table

    from edgefer.models.registry import Architecture, architecture, names
    from edgefer.models.weights import shipped_for

    def accuracies(entry: Architecture) -> list[tuple[str, str]]:
        found = [(entry.published, "published")] if entry.published else []
        return ([*found, (entry.measured, "measured by us")] if entry.measured else found) or [("–", "–")]

    table = Table(box=None, pad_edge=False)
    for heading in ("name", "input", *_RIGHT, "weights", "top-1", "source"):
        table.add_column(heading, justify="right" if heading in _RIGHT else "left", no_wrap=heading == "name")
    for name in names():
        entry = architecture(name)
        (accuracy, source), *more = accuracies(entry)
        table.add_row(
            name,
            f"{entry.size}×{entry.size}×{entry.channels}",
            "\n".join(f"{count:,}" for count in entry.params.values()),
            f"{entry.macs / 1e6:,.1f} M",
            "\n".join(found.removeprefix(name) or "ship" for found in shipped_for(name)) or "–",
            accuracy,
            source,
        )
        for accuracy, source in more:
            table.add_row("", "", "", "", "", accuracy, source)
    Console(width=None if Console().is_terminal else 120).print(table)
