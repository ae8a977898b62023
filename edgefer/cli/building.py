"""``edgefer build-engine``."""

from __future__ import annotations

from pathlib import Path

import click

from edgefer.cli import options


@click.command("build-engine")
@click.argument("model", type=options.PATH)
@click.option("--fp32", "precision", flag_value="fp32", help="Float 32.")
@click.option("--bf16", "precision", flag_value="bf16", help="bfloat16, where the runtime has kernels for it.")
@click.option("--fp16", "precision", flag_value="fp16", help="Float 16, where the runtime has kernels for it.")
@click.option("--int8", "precision", flag_value="int8", help="INT8; needs --calib.")
@click.option("--calib", help=f"Faces that set the ranges: the `calib` part of DATA. {options.DATA_HELP}")
@options.votes
@click.option(
    "--calib-faces", type=click.IntRange(min=1), default=500, show_default=True, help="How many of them, stratified."
)
@click.option(
    "--method",
    type=click.Choice(["minmax", "percentile"]),
    default="percentile",
    show_default=True,
    help="How a histogram becomes a range.",
)
@click.option(
    "--target",
    type=click.Choice(["cpu", "tensorrt", "tensorrt-rtx"]),
    default="cpu",
    show_default=True,
    help="What the engine is for.",
)
@click.option(
    "--runtime", type=click.Choice(["onnxruntime"]), default="onnxruntime", show_default=True, help="Of a CPU."
)
@click.option("--onnx-only", is_flag=True, help="Stop at the quantised ONNX: what a host hands to a device.")
@options.seed
@options.output
def build_engine(
    model: Path,
    precision: str | None,
    calib: str | None,
    votes: str | None,
    calib_faces: int,
    method: str,
    target: str,
    runtime: str,
    onnx_only: bool,
    seed: int,
    output: Path,
) -> None:
    """Turn an exported MODEL.onnx into an engine with its manifest."""
    import edgefer

    if precision is None:
        raise click.UsageError("say which precision: --fp32, --bf16, --fp16 or --int8")
    result = edgefer.build_engine(
        model,
        output,
        precision=precision,
        calib=calib,
        votes=votes,
        calib_faces=calib_faces,
        method=method,
        target=target,
        runtime=runtime,
        onnx_only=onnx_only,
        seed=seed,
    )
    click.echo(result.summary())
