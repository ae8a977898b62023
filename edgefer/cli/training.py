"""``edgefer train``."""

from __future__ import annotations

from pathlib import Path

import click

from edgefer.cli import options


@click.command()
@click.option("--model", required=True, help="A network of the zoo: see `edgefer models`.")
@click.option("--data", required=True, help=options.DATA_HELP)
@options.votes
@options.output
@click.option("--epochs", type=click.IntRange(min=1), default=100, show_default=True, help="Passes over the fit faces.")
@click.option("--max-seconds", type=click.FloatRange(min=1), help="Stop by then, the schedule shortened to fit.")
@click.option("--batch", type=click.IntRange(min=1), default=None, help="Faces a step.  [default: the recipe's]")
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), default=None, help="Peak learning rate.")
@options.seed
@click.option("--threads", type=click.IntRange(min=1), default=None, help="Threads of PyTorch.  [default: its own]")
@click.option("--resume/--fresh", default=True, show_default=True, help="Go on from OUTPUT.state where a run left one.")
def train(
    model: str,
    data: str,
    votes: str | None,
    output: Path,
    epochs: int,
    max_seconds: float | None,
    batch: int | None,
    lr: float | None,
    seed: int,
    threads: int | None,
    resume: bool,
) -> None:
    """Train a network; the checkpoint that is best on `val` is kept."""
    import edgefer
    from edgefer.training import TrainConfig

    given = {"batch_size": batch, "lr": lr, "threads": threads, "max_seconds": max_seconds}
    config = TrainConfig(epochs=epochs, seed=seed, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
    faces = edgefer.open_dataset(data, votes=votes)
    result = edgefer.train(faces, model, output, config, resume=resume)
    click.echo(
        f"{result.output}: top-1 {100 * result.best_val_top1:.2f} % on val "
        f"(epoch {result.best_epoch} of {result.epochs}, {result.seconds:.0f} s)"
    )
