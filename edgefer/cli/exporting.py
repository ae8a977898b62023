"""``edgefer export``."""

from __future__ import annotations

from pathlib import Path

import click

from edgefer.cli import options


@click.command()
@click.option("--model", help="A network of the zoo: see `edgefer models`.")
@click.option(
    "--module",
    metavar="PKG.MOD:FACTORY",
    help="Your own network: a function or class that makes a torch.nn.Module, from here or from PYTHONPATH.",
)
@click.option("--contract", type=options.PATH, help="With --module: its labels, input and normalisation, as TOML.")
@click.option("--weights", type=options.PATH, help="Weights of it.  [default: those that ship, or the factory's own]")
@click.option("--random-weights", is_flag=True, help="Untrained, for measuring speed only.")
@click.option("--labels", help="Class names in the order of the outputs, a,b,c: where the weights do not say.")
@options.output
@click.option("--simplify/--no-simplify", default=True, show_default=True, help="Run onnxsim on the graph.")
def export(
    model: str | None,
    module: str | None,
    contract: Path | None,
    weights: Path | None,
    random_weights: bool,
    labels: str | None,
    output: Path,
    simplify: bool,
) -> None:
    """Write a network as ONNX with its normalisation inside, checked against PyTorch."""
    if (model is None) == (module is None):
        raise click.UsageError("say which network: --model NAME, or --module PKG.MOD:FACTORY with --contract FILE")
    if module is not None:
        if ":" not in module:
            raise click.UsageError(f"--module is PKG.MOD:FACTORY, and '{module}' names no factory")
        if contract is None or random_weights or labels is not None:
            raise click.UsageError("--module goes with --contract FILE, and not with --random-weights or --labels")
    elif contract is not None:
        raise click.UsageError("--contract goes with --module: a network of the zoo has its own")
    import edgefer

    result = edgefer.export(
        model or module or "",
        output,
        weights=weights,
        random_weights=random_weights,
        labels=None if labels is None else [label.strip() for label in labels.split(",")],
        contract=contract,
        simplify=simplify,
    )
    click.echo(
        f"{result.path}: {result.nodes} nodes, {'simplified' if result.simplified else 'not simplified'}; "
        f"largest difference from PyTorch {result.max_abs_diff:.2e}"
    )
