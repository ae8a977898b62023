"""``edgefer export``."""

from __future__ import annotations

from pathlib import Path

import click

from edgefer.cli import options


@click.command()
@click.option("--model", required=True, help="A network of the zoo: see `edgefer models`.")
@click.option("--weights", type=options.PATH, help="Weights of it.  [default: those that ship]")
@click.option("--random-weights", is_flag=True, help="Untrained, for measuring speed only.")
@click.option("--labels", help="Class names in the order of the outputs, a,b,c: where the weights do not say.")
@options.output
@click.option("--simplify/--no-simplify", default=True, show_default=True, help="Run onnxsim on the graph.")
def export(
    model: str, weights: Path | None, random_weights: bool, labels: str | None, output: Path, simplify: bool
) -> None:
    """Write a network as ONNX with its normalisation inside, checked against PyTorch."""
    import edgefer

    result = edgefer.export(
        model,
        output,
        weights=weights,
        random_weights=random_weights,
        labels=None if labels is None else [label.strip() for label in labels.split(",")],
        simplify=simplify,
    )
    click.echo(
        f"{result.path}: {result.nodes} nodes, {'simplified' if result.simplified else 'not simplified'}; "
        f"largest difference from PyTorch {result.max_abs_diff:.2e}"
    )
