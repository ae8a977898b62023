"""``edgefer contract``."""

from __future__ import annotations

from pathlib import Path

import click

from edgefer.cli import options
from edgefer.errors import EdgeferError


@click.group()
def contract() -> None:
    """What a network takes and returns, as a TOML file: for `export --module` and `adopt`."""


@contract.command()
@click.option(
    "-o",
    "--output",
    type=options.PATH,
    default=Path("contract.toml"),
    show_default=True,
    help="The file to write; one that exists is left alone.",
)
def new(output: Path) -> None:
    """Write a template with every value explained and left to fill in."""
    from edgefer.atomic import write_text
    from edgefer.contract_file import template

    if output.exists():
        raise EdgeferError(f"{output} exists already", hint="delete it, or give another name with -o")
    write_text(output, template())
    click.echo(f"{output}: fill in what the network takes and returns")


@contract.command()
@click.argument("file", type=options.PATH)
def guess(file: Path) -> None:
    """Print the contract that FILE carries or is probably for: weights, a Keras hdf5, or an ONNX file.

    A guess is for you to confirm: read it, correct it, keep it as contract.toml. Nothing applies it by itself.
    """
    from edgefer.graph.guess import guess_contract

    click.echo(guess_contract(file), nl=False)
