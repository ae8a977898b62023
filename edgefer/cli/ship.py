"""Commands for devices: deploy, doctor and inspect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefer.cli import options

if TYPE_CHECKING:
    from edgefer.doctor.engine import Verdict


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


@click.command()
@click.argument("engine", type=options.PATH, required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def doctor(engine: Path | None, as_json: bool) -> None:
    """Say what this machine is and what edgefer can do on it; with ENGINE, whether that runs here (exit 1: no)."""
    from edgefer.doctor.diagnosis import diagnose

    if engine is None:
        from edgefer.doctor.rendering import lines, to_json

        found = diagnose()
        click.echo(json.dumps(to_json(found), indent=2) if as_json else "\n".join(lines(found)))
        return
    from edgefer.doctor.engine import judge

    verdict = judge(engine, diagnose())
    if as_json:
        click.echo(json.dumps(verdict.to_json(), indent=2))
    else:
        _print(verdict)
    if not verdict.runs:
        click.get_current_context().exit(1)


def _print(verdict: Verdict) -> None:
    click.echo(f"{verdict.engine}: {verdict.what or 'without a manifest'}")
    if verdict.runs:
        checked = "it answers its golden faces as when it was built"
        click.echo(f"runs here: yes, {checked if verdict.what else 'and there are no golden faces to ask it about'}")
        return
    click.echo(f"runs here: no\nwhy: {verdict.why}")
    if verdict.hint:
        click.echo(f"hint: {verdict.hint}")
    if verdict.install:
        click.echo("\nto run this one, install what it lacks:")
        click.echo("\n".join(f"  {command}" for command in verdict.install))
    click.echo(f"\nto make one that runs here:\n  {verdict.build}")


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
