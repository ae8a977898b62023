"""``edgefer quickstart``."""

from __future__ import annotations

from pathlib import Path

import click

from edgefer.cli import options


@click.command()
@click.option("--data", default=None, help=f"Real faces instead of drawn ones. {options.DATA_HELP}")
@click.option("--model", default="mini_xception", show_default=True, help="A network of the zoo.")
@click.option(
    "-o", "--output", type=options.PATH, default=Path("quickstart"), show_default=True, help="The folder to fill."
)
@click.option("--seconds", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Of training.")
@options.seed
def quickstart(data: str | None, model: str, output: Path, seconds: float, seed: int) -> None:
    """The whole road in minutes: faces, training, export, INT8 engine, and what that cost.

    Without --data it draws its faces, so nothing is needed and nothing is downloaded.
    """
    from edgefer.quickstart import run
    from edgefer.report.terminal import print_report

    result = run(output, data=data, model=model, seconds=seconds, seed=seed)
    print_report(result.report)
    click.echo("\nfiles:")
    for path, what in result.files:
        click.echo(f"  {path}  {what}")
