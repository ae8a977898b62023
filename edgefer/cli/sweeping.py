"""``edgefer sweep``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgefer.cli import options


def _numbers(_: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        values = (0,)
    if min(values) < 1:
        raise click.BadParameter(f"'{text}' is no list of numbers of at least 1, such as 1,2,4", param=parameter)
    return values


@click.command()
@click.argument("engine", type=options.PATH)
@click.option("--data", required=True, help=f"Faces to run on: the `test` part of DATA. {options.DATA_HELP}")
@options.reading
@click.option("--batches", default="1,4,16", show_default=True, callback=_numbers, help="Faces a call.")
@click.option("--threads", default="1", show_default=True, callback=_numbers, help="Threads of each engine.")
@click.option("--concurrency", default="1", show_default=True, callback=_numbers, help="Callers, each with an engine.")
@click.option("--scope", type=click.Choice(["compute", "e2e"]), default="e2e", show_default=True, help="What is timed.")
@click.option("--seconds", type=click.FloatRange(min=0.05), default=2.0, show_default=True, help="A combination.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout instead of a table.")
def sweep(
    engine: Path,
    data: str,
    reading: dict[str, Any],
    batches: tuple[int, ...],
    threads: tuple[int, ...],
    concurrency: tuple[int, ...],
    scope: str,
    seconds: float,
    as_json: bool,
) -> None:
    """Time ENGINE over batches, threads and concurrent callers."""
    import edgefer
    from edgefer.report.sweep import print_sweep, run_sweep

    faces = edgefer.open_dataset(data, **reading)
    found = run_sweep(
        engine, faces, batches=batches, threads=threads, concurrency=concurrency, scope=scope, seconds=seconds
    )
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        print_sweep(found)
