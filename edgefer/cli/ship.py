"""Commands for devices: deploy, doctor and inspect."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefer.cli import options
from edgefer.cli.help import Group, command, option, section

if TYPE_CHECKING:
    from edgefer.data import ReadSettings


@click.group(cls=Group)
def deploy() -> None:
    """Pack a network for a device, and check it there."""


@deploy.command(
    examples=(
        "edgefer deploy bundle model.onnx --calib faces.npz -o bundle",
        "edgefer deploy bundle model.onnx --calibration-table t.jsonl -o dir",
    )
)
@click.argument("model", type=options.PATH)
@section(
    "Precision",
    option("--fp32", is_flag=True, help="Build float 32 engines."),
    option("--fp16", is_flag=True, help="Build float 16 TensorRT engines; with --int8, what is not INT8."),
    option(
        "--int8",
        is_flag=True,
        help="Build INT8 engines.  [default: --int8 --fp16 with --calib or a calibration table, else --fp16]",
    ),
)
@section(
    "Calibration",
    option("--calib", metavar="DATA", help=f"Calibrate on DATA, as build-engine does. {options.CALIB_HELP}"),
    options.calibration_table,
)
@section(
    "Evaluation on the device",
    option("--data", metavar="DATA", help="Copy `test` faces of DATA into the bundle.  [default: synthetic faces]"),
    option(
        "--limit",
        type=options.Whole("count"),
        default=1000,
        show_default=True,
        needs="--data",
        help="Copy at most N of them.",
    ),
    option(
        "--baseline", metavar="WHAT", help="Network or engine that the device is compared with.  [default: MODEL.onnx]"
    ),
)
@section("Reading DATA", options.votes, options.exclude, options.reading)
@options.seed
@option("-o", "--output", type=options.PATH, required=True, metavar="FOLDER", help="The folder to make.")
def bundle(  # noqa: PLR0913 - a click command's options
    model: Path,
    output: Path,
    fp32: bool,
    fp16: bool,
    int8: bool,
    calib: str | None,
    data: str | None,
    votes: str | None,
    exclude: str | None,
    reading: ReadSettings | None,
    table: Path | None,
    **settings: Any,
) -> None:
    """Make a folder that a device builds and benches from.

    The device needs neither PyTorch nor a network connection.
    """
    import edgefer
    from edgefer.deploy.bundle import make_bundle
    from edgefer.optimize.settings import Quantisation
    from edgefer.runtimes import TENSORRT

    if fp32 and (fp16 or int8):
        raise click.UsageError("--fp32 is without --fp16 and --int8")
    if data is None and calib is None and (votes is not None or reading):
        raise click.UsageError("--votes, --map, --classes, --root, --allow-missing and --no-boxes say how DATA is read")
    if exclude is not None and calib is None:
        raise click.UsageError("--exclude leaves faces out of --calib: give it")
    parts = [name for name, given in (("fp32", fp32), ("int8", int8), ("fp16", fp16)) if given]
    quantisation = Quantisation(calib, table=table)
    quantisation.check(TENSORRT.target, "+".join(parts) or "int8", command="deploy bundle")  # before faces are read
    if calib is not None:
        faces = edgefer.open_dataset(calib, votes=votes, exclude=exclude, reading=reading)
        quantisation = replace(quantisation, data=faces)
    made = make_bundle(
        model,
        output,
        precision="+".join(parts) or None,
        quantisation=quantisation,
        data=None if data is None else edgefer.open_dataset(data, votes=votes, reading=reading),
        **settings,
    )
    click.echo(made.summary())


@deploy.command(examples=("edgefer deploy check bundle", "edgefer deploy check bundle bundle/engines/model.engine"))
@click.argument("folder", type=options.PATH)
@click.argument("engine", type=options.PATH, required=False)
def check(folder: Path, engine: Path | None) -> None:
    """Check a bundle's files, and ENGINE's answers.

    The files of FOLDER are compared with their hashes, ENGINE with the float model's golden answers.
    """
    from edgefer.deploy.check import check_bundle

    found = check_bundle(folder, engine)
    click.echo(f"{folder}: {found.files} files, as they were written")
    if found.distance is not None:
        click.echo(
            f"{engine}: its logits for the golden faces differ from the float model's by {found.distance:.3g} of their "
            f"scale, {found.allowed:.3g} is allowed"
        )


@command(examples=("edgefer doctor", "edgefer doctor model.int8.onnx"))
@click.argument("engine", type=options.PATH, required=False)
@options.as_json
def doctor(engine: Path | None, as_json: bool) -> None:
    """Show what this machine has, and what edgefer can do on it.

    With ENGINE: whether that engine runs here (exit code 1 if not), and what would make it run.
    """
    from edgefer.doctor.advice import engine_verdict
    from edgefer.doctor.probe import diagnose
    from edgefer.doctor.text import diagnosis_json, lines, verdict_json, verdict_lines

    found = diagnose()
    if engine is None:
        click.echo(json.dumps(diagnosis_json(found), indent=2) if as_json else "\n".join(lines(found)))
        return
    verdict = engine_verdict(engine, found)
    click.echo(json.dumps(verdict_json(verdict), indent=2) if as_json else "\n".join(verdict_lines(verdict)))
    if not verdict.runs:
        click.get_current_context().exit(1)


@command("inspect", examples=("edgefer inspect model.int8.onnx", "edgefer inspect weights.pth --layers"))
@click.argument("file", type=options.PATH)
@option("--layers", is_flag=True, help="List every layer: shape, parameters, MACs, precision.")
@option("--json", "as_json", is_flag=True, help="Print one JSON object, with all layers.")
def inspect(file: Path, layers: bool, as_json: bool) -> None:
    """Show what a model, engine or weights file is, and its origin.

    FILE is .onnx, .engine, .safetensors, .pth or .pt; no code in it is run. Layers are called by the PyTorch modules
    that they were exported from. The exit code is 1 if its parts do not fit together.
    """
    from edgefer.deploy.inspect import inspect_file, inspection_json, layer_rows, rows

    found = inspect_file(file)
    if as_json:
        click.echo(json.dumps(inspection_json(found), indent=2))
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


def _print_layers(listed: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*listed, strict=True)]
    numbers = [heading in ("parameters", "MACs", "values") for heading in listed[0]]
    for row in listed:
        columns = zip(row, widths, numbers, strict=True)
        cells = [cell.rjust(width) if number else cell.ljust(width) for cell, width, number in columns]
        click.echo("  ".join(cells).rstrip())
