"""``edgefer bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgefer.cli import options


@click.command()
@click.argument("engines", nargs=-1, required=True, type=options.PATH)
@click.option("--data", required=True, help=f"Faces to judge on: the `test` part of DATA. {options.DATA_HELP}")
@options.votes
@options.reading
@click.option("--baseline", required=True, help="A network of the zoo, weights, an engine, or predictions.npz.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Faces a call.")
@options.threads
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="Of timing, in all; ten rounds are made in any case.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Judge on so many faces at most, drawn at random.")
@options.seed
@click.option(
    "--save-predictions", type=options.PATH, help="Write the first engine's answers: a baseline for elsewhere."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout instead of a table.")
def bench(
    engines: tuple[Path, ...],
    data: str,
    votes: str | None,
    reading: dict[str, Any],
    baseline: str,
    batch: int,
    threads: int,
    seconds: float,
    limit: int | None,
    seed: int,
    save_predictions: Path | None,
    as_json: bool,
) -> None:
    """Time ENGINES against the baseline, interleaved, and pair their answers on the test faces."""
    import edgefer
    from edgefer.report.terminal import print_report

    if save_predictions is not None and save_predictions.suffix != ".npz":
        raise click.UsageError(f"--save-predictions writes an .npz, not {save_predictions}")
    faces = edgefer.open_dataset(data, votes=votes, **reading)
    report = edgefer.benchmark(
        engines, faces, baseline, batch=batch, threads=threads, seconds=seconds, limit=limit, seed=seed
    )
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        print_report(report)
    if save_predictions is not None:
        report.engines[0].predictions.save(save_predictions)
