"""Commands that look things up: data and models."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefer.cli import options
from edgefer.cli.help import Group, command, option, section

if TYPE_CHECKING:
    from edgefer.data import ReadSettings
    from edgefer.data.inspection import DataInspection
    from edgefer.models.registry import Architecture


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
        type=options.Whole("count"),
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

    PATH is a FER2013 or AffectNet csv, an npz, one folder per class, or images without labels. Faces are counted per
    split and class.
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
    rows = [(name, [counts[name] for counts in columns]) for name in columns[0]]
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
    if found.notes:
        console.print("\nnotes:")
    for note in found.notes:
        console.print(f"  {note}", soft_wrap=True)
    sound = "apart from the notes, no fault was found" if found.notes else "no fault was found"
    console.print("\nwhat is wrong:" if found.problems else f"\n{sound}")
    for problem in found.problems:
        console.print(f"  {problem}", soft_wrap=True)


_NUMBERS = ("M params", "MMACs", "FP32 ms", "INT8 ms", "top-1")


@command(examples=("edgefer models", "edgefer models --json"))
@options.as_json
def models(as_json: bool) -> None:
    """List the networks, their size, latency, accuracy and weights.

    Parameters are for 7 classes; any number of classes from 2 works. Weights that ship are used by default, and can be
    named where weights are asked for: NAME, NAME_ferplus (FER+'s eight classes) or NAME_SIZE (larger faces).

    --json also has the parameters for 8 classes, what accuracies were measured on, and the source of each network.
    """
    from rich.console import Console
    from rich.table import Table

    from edgefer.models import DEFAULT
    from edgefer.models.registry import architecture, names, zoo_latency
    from edgefer.models.weights import shipped_for
    from edgefer.report.terminal import digits

    measured = zoo_latency()
    entries = [architecture(name) for name in names()]
    if as_json:
        found = {
            "latency": {"machine": measured.machine, "conditions": measured.conditions, "packages": measured.packages},
            "ready_to_run": DEFAULT,
            "networks": [_network(entry, measured.ms.get(entry.name), shipped_for(entry.name)) for entry in entries],
        }
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("name", "input", *_NUMBERS, "published", "weights"):
        table.add_column(heading, justify="right" if heading in _NUMBERS else "left", no_wrap=True)
    for entry in entries:
        ms = measured.ms.get(entry.name)
        table.add_row(
            entry.name,
            f"{entry.size}×{entry.size}×{entry.channels}",
            f"{next(iter(entry.params.values())) / 1e6:,.2f}",
            f"{entry.macs / 1e6:,.1f}",
            *(("–", "–") if ms is None else map(digits, ms)),
            _first_share(entry.measured, with_data=False),
            _first_share(entry.published, with_data=True),
            "ship" if shipped_for(entry.name) else "–",
        )
    console = Console(width=None if Console().is_terminal else 100, highlight=False)
    console.print(table)
    weights = [found for entry in entries for found in shipped_for(entry.name)]
    console.print(f"\nweights that ship, by name: {', '.join(weights)}")
    versions = ", ".join(f"{name} {version}" for name, version in measured.packages.items() if name != "edgefer")
    console.print(f"ms: {measured.machine}; {measured.conditions}; {versions}")
    console.print("top-1: measured by us on FER2013's public test; --json and docs/zoo.md say with which weights")
    console.print(f"{DEFAULT} also ships ready to run: `edgefer predict`, `camera` and `web` take it by default")


def _first_share(text: str, *, with_data: bool) -> str:
    """The first share of right answers in ``text``, such as ``"62.1 %"``, and what follows it up to a comma."""
    found = re.search(r"[\d.]+ %( [\w+-]+)?", text)
    if found is None:
        return "–"
    return found[0] if with_data else found[0].removesuffix(found[1] or "")


def _network(entry: Architecture, ms: tuple[float, float] | None, shipped: tuple[str, ...]) -> dict[str, Any]:
    return {
        "name": entry.name,
        "input": {"height": entry.size, "width": entry.size, "channels": entry.channels},
        "parameters": {str(classes): count for classes, count in entry.params.items()},
        "macs": entry.macs,
        "latency_ms": None if ms is None else {"fp32": ms[0], "int8": ms[1]},
        "measured": entry.measured or None,
        "published": entry.published or None,
        "weights": list(shipped),
        "source": entry.source_note,
    }
