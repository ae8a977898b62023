"""``edgefer sensitivity`` and ``edgefer calibrate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgefer.cli import options


@click.command()
@click.argument("model", type=options.PATH)
@click.option(
    "--calib", required=True, help=f"Its `calib` part sets ranges, its `val` part judges. {options.DATA_HELP}"
)
@options.votes
@options.exclude
@options.reading
@options.recipe
@click.option("--runtime", type=click.Choice(["onnxruntime", "openvino"]), default="onnxruntime", show_default=True)
@click.option("--flavour", help="Where Q/DQ stand, of those that suit the runtime.  [default: the first]")
@click.option("--limit", type=click.IntRange(min=1), help="Judge on so many faces at most, stratified.")
@options.threads
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout instead of a table.")
@click.option("--png", type=options.PATH, help="Draw it as well.")
def sensitivity(
    model: Path,
    calib: str,
    votes: str | None,
    exclude: str | None,
    reading: dict[str, Any],
    refine: str | None,
    as_json: bool,
    png: Path | None,
    **settings: Any,
) -> None:
    """Rank the layers of MODEL.onnx by what INT8 costs in each alone."""
    if png is not None and png.suffix != ".png":
        raise click.UsageError(f"--png writes a .png, not {png}")
    import edgefer
    from edgefer.cli.layers_table import draw_sensitivity, print_sensitivity
    from edgefer.optimize.refiner import parse_steps
    from edgefer.optimize.sensitivity import sensitivity as measure

    faces = edgefer.open_dataset(calib, votes=votes, exclude=exclude, **reading)
    found = measure(model, faces, refine=None if refine is None else parse_steps(refine), **settings)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        print_sensitivity(found)
    if png is not None:
        draw_sensitivity(found, png)


@click.command()
@click.argument("model", type=options.PATH)
@click.option(
    "--calib", required=True, help=f"Faces that set the ranges: the `calib` part of DATA. {options.DATA_HELP}"
)
@options.votes
@options.exclude
@options.reading
@options.recipe
@options.output
def calibrate(
    model: Path,
    calib: str,
    votes: str | None,
    exclude: str | None,
    reading: dict[str, Any],
    refine: str | None,
    output: Path,
    **settings: Any,
) -> None:
    """Write the ranges of MODEL.onnx as text, for INT8 engines without any image (build-engine --ranges)."""
    import edgefer
    from edgefer.optimize.ranging import write_table
    from edgefer.optimize.refiner import parse_steps

    faces = edgefer.open_dataset(calib, votes=votes, exclude=exclude, **reading)
    table = write_table(model, faces, output, refine=None if refine is None else parse_steps(refine), **settings)
    click.echo(
        f"{output}: {len(table.ranges.histograms)} tensors over {table.calibration.n:,} faces, "
        f"{output.stat().st_size / 1e3:.0f} kB; for {table.architecture} with weights {table.weights_sha256[:12]}…"
    )
