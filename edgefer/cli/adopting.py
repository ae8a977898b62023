"""``edgefer adopt``."""

from __future__ import annotations

from pathlib import Path

import click

from edgefer.cli import options


@click.command()
@click.argument("foreign", type=options.PATH)
@click.option("--contract", type=options.PATH, required=True, help="Its labels, input and normalisation, as TOML.")
@options.output
@click.option("--layout", type=click.Choice(["NCHW", "NHWC"]), help="Of its input, where its sizes fit both.")
@click.option("--own-scaling", is_flag=True, help="It scales its input itself, after the contract's normalisation.")
@click.option("--simplify/--no-simplify", default=True, show_default=True, help="Run onnxsim on the graph.")
def adopt(foreign: Path, contract: Path, output: Path, layout: str | None, own_scaling: bool, simplify: bool) -> None:
    """Put a FOREIGN.onnx with float input behind a contract: uint8 faces in, logits out.

    The contract's labels are in the order of the foreign outputs; `edgefer contract guess` helps to write it.
    """
    import edgefer

    result = edgefer.adopt(foreign, contract, output, layout=layout, own_scaling=own_scaling, simplify=simplify)
    click.echo(
        f"{result.path}: {result.nodes} nodes, opset {result.opset}, from {result.layout} floats; "
        f"largest difference from {foreign.name} {result.max_abs_diff:.2e} in logits up to {result.logit_scale:.3g}"
    )
