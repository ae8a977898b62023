"""``edgefer deploy``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgefer.cli import options


@click.group()
def deploy() -> None:
    """Hand a network over to a device."""


@deploy.command()
@click.argument("model", type=options.PATH)
@click.option("--fp32", is_flag=True, help="Engines in float 32.")
@click.option("--fp16", is_flag=True, help="TensorRT engines in float 16; with --int8, what is not INT8.")
@click.option("--int8", is_flag=True, help="Engines in INT8.  [default: with --fp16, where there are ranges]")
@click.option("--calib", help=f"Faces that set the ranges: the `calib` part of DATA. {options.DATA_HELP}")
@click.option(
    "--ranges", "table", type=options.PATH, help="A table that `edgefer calibrate` wrote, instead of --calib."
)
@click.option(
    "--data", help="Faces to judge on: the `test` part of DATA, copied into the bundle.  [default: drawn faces]"
)
@options.votes
@options.exclude
@options.reading
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="Of them, at most.")
@click.option("--baseline", help="Whose answers the device compares with.  [default: the model, in ONNX Runtime]")
@options.seed
@click.option("-o", "--output", type=options.PATH, required=True, metavar="DIR", help="The folder to make.")
def bundle(
    model: Path,
    output: Path,
    fp32: bool,
    fp16: bool,
    int8: bool,
    calib: str | None,
    data: str | None,
    votes: str | None,
    exclude: str | None,
    reading: dict[str, Any],
    **settings: Any,
) -> None:
    """Put all that a device without PyTorch needs to build, check and bench MODEL.onnx into the folder DIR."""
    import edgefer
    from edgefer.deploy.bundle import make_bundle

    if fp32 and (fp16 or int8):
        raise click.UsageError("--fp32 is without --fp16 and --int8")
    if data is None and calib is None and (votes is not None or reading):
        raise click.UsageError("--votes, --map, --classes, --root, --allow-missing and --no-boxes say how DATA is read")
    if exclude is not None and calib is None:
        raise click.UsageError("--exclude leaves faces out of --calib: give it")
    parts = [name for name, given in (("fp32", fp32), ("int8", int8), ("fp16", fp16)) if given]
    made = make_bundle(
        model,
        output,
        precision="+".join(parts) or None,
        calib=None if calib is None else edgefer.open_dataset(calib, votes=votes, exclude=exclude, **reading),
        data=None if data is None else edgefer.open_dataset(data, votes=votes, **reading),
        **settings,
    )
    click.echo(made.summary())


@deploy.command()
@click.argument("folder", type=options.PATH)
@click.argument("engine", type=options.PATH, required=False)
def check(folder: Path, engine: Path | None) -> None:
    """Compare the bundle FOLDER with its hashes, and ENGINE with the float model's answers."""
    from edgefer.deploy.checking import check_bundle

    found = check_bundle(folder, engine)
    click.echo(f"{folder}: {found.files} files, as they were written")
    if found.apart is not None:
        click.echo(
            f"{engine}: its logits for the golden faces differ from the float model's by {found.apart:.3g} of their "
            f"scale, {found.allowed:.3g} is allowed"
        )
