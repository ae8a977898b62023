"""``edgefer inspect``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgefer.cli import options


@click.command("inspect")
@click.argument("file", type=options.PATH)
@click.option("--layers", is_flag=True, help="Every layer with its precision, asked for and got.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, with all layers.")
def inspect(file: Path, layers: bool, as_json: bool) -> None:
    """Say what an ONNX FILE or an engine is, and where it comes from; exit 1 where something does not fit together."""
    from edgefer.deploy.inspection import inspect_file
    from edgefer.deploy.inspection_text import layer_rows, rows, to_json

    found = inspect_file(file)
    if as_json:
        click.echo(json.dumps(to_json(found), indent=2))
    else:
        listed = list(rows(found))
        width = max(len(title) for title, _ in listed)
        for title, text in listed:
            click.echo(f"{title:<{width}}  {text}")
        if layers:
            click.echo()
            _print_layers(layer_rows(found))
    if found.problems:
        click.get_current_context().exit(1)


def _print_layers(listed: list[tuple[str, str, str, str]]) -> None:
    table = [("layer", "", "asked", "got"), *listed]
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)]
        click.echo("  ".join([*cells, row[3]]).rstrip())
