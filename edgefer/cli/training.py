"""``edgefer train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgefer.cli import options
from edgefer.errors import EdgeferError


@click.command()
@click.option("--model", help="A network of the zoo: see `edgefer models`.  [default: the recipe's]")
@click.option("--recipe", help="Settings of a TOML file, or of a recipe that ships; options below go before them.")
@click.option("--data", required=True, help=options.DATA_HELP)
@options.votes
@click.option("--own-labels", is_flag=True, help="Keep DATA's labels: the votes are for --vote-share alone.")
@options.exclude
@options.reading
@click.option("--init", type=options.PATH, help="Begin with these weights: fine-tuning.  [default: fresh ones]")
@options.output
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the fit faces.  [default: 100]")
@click.option("--max-seconds", type=click.FloatRange(min=1), help="Stop by then, the schedule shortened to fit.")
@click.option(
    "--size", type=click.IntRange(16, 256), help="Pixels a side of its faces.  [default: --init's, or its own]"
)
@click.option("--batch", "batch_size", type=click.IntRange(min=1), help="Faces a step.  [default: the network's]")
@click.option("--lr", type=float, help="Peak learning rate.  [default: the network's]")
@click.option("--optimiser", type=click.Choice(["adamw", "adam", "sgd"]), help="[default: adamw]")
@click.option("--weight-decay", type=float, help="Of convolutions and fully connected layers.  [default: 1e-4]")
@click.option("--warmup", type=float, help="Part of the run in which the rate rises.  [default: 0.05]")
@click.option("--schedule", type=click.Choice(["cosine", "step"]), help="After the warm-up.  [default: cosine]")
@click.option("--head-lr", type=float, help="Times the rate, for the last layer.  [default: 1]")
@click.option("--frozen", type=float, help="Part of the run in which only the last layer learns.  [default: 0]")
@click.option("--sampling", type=click.Choice(["shuffled", "balanced"]), help="Of faces.  [default: shuffled]")
@click.option("--label-smoothing", type=float, help="Share of a target spread over all classes.  [default: 0]")
@click.option("--vote-share", type=float, help="Share of a target that is FER+'s votes'.  [default: 0]")
@click.option("--teacher", "teachers", type=options.PATH, multiple=True, help="Learn from these weights' answers too.")
@click.option("--teacher-share", type=float, help="Share of the loss that is the teachers'.  [default: 0.7]")
@click.option("--temperature", type=float, help="Softens the teachers' answers; 1 does not.  [default: 2]")
@click.option("--class-weights", type=click.Choice(["none", "sqrt", "balanced"]), help="Of the loss.  [default: none]")
@click.option("--augment", type=float, help="Strength; 1 is ±10° and ±10 %, 0 is none.  [default: 1]")
@click.option("--erasing", type=float, help="Probability that a face has a rectangle blanked.  [default: 0]")
@click.option("--noise", type=float, help="Share of pixels that turn black or white, at most.  [default: 0]")
@click.option("--crop", type=float, help="Share of a face cut off around a window, at most.  [default: 0]")
@click.option("--mixup", type=float, help="Blend faces in pairs: α of Beta(α, α).  [default: 0]")
@click.option("--ema-decay", type=float, help="Of the averaged weights that are kept; 0: none.  [default: 0.998]")
@click.option("--clip", type=float, help="Largest norm of the gradient.  [default: 5]")
@click.option("--keep", type=click.Choice(["top1", "loss"]), help="The epoch that is best on val by.  [default: top1]")
@click.option("--patience", type=click.IntRange(min=1), help="Stop after so many epochs without a better val.")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), help="bf16: autocast.  [default: fp32]")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of every random choice.  [default: 0]")
@click.option("--threads", type=click.IntRange(min=1), default=None, help="Threads of PyTorch.  [default: its own]")
@click.option("--plots", type=options.PATH, help="A folder for curve and confusion matrix, as CSV and PNG.")
@click.option("--tensorboard", type=options.PATH, help="A folder for TensorBoard's event files, written as it goes.")
@click.option("--resume/--fresh", default=True, show_default=True, help="Go on from OUTPUT.state where a run left one.")
def train(
    model: str | None,
    recipe: str | None,
    data: str,
    votes: str | None,
    own_labels: bool,
    exclude: str | None,
    reading: dict[str, Any],
    init: Path | None,
    teachers: tuple[Path, ...],
    output: Path,
    plots: Path | None,
    tensorboard: Path | None,
    resume: bool,
    **settings: Any,
) -> None:
    """Train a network; the checkpoint that is best on `val` is kept."""
    import edgefer
    from edgefer.progress import announce
    from edgefer.report.tensorboard import event_files
    from edgefer.report.training import require_plots, write_training_report
    from edgefer.training import TrainConfig

    if plots is not None:
        require_plots(plots)
    given = {name: value for name, value in settings.items() if value is not None}
    if recipe is not None:
        from edgefer.training.recipes import load_recipe

        found = load_recipe(recipe)
        announce(f"recipe {recipe}: {found.note}")
        model, given = model or found.model, {**found.settings, **given}
        init, teachers, votes = init or found.init, teachers or found.teachers, votes or found.votes
    if output in (init, *teachers):
        raise EdgeferError(f"{output} is to be written, and is what training begins with", hint="-o another file")
    if model is None:
        raise click.UsageError("say which network: --model NAME, or --recipe")
    if not teachers and ("teacher_share" in given or "temperature" in given):
        raise EdgeferError("teacher-share and temperature need teachers, and there is none", hint="--teacher FILE")
    if own_labels and votes is None:
        raise click.UsageError("--own-labels says what --votes leaves as it is: pass --votes too")
    config = TrainConfig(**given)
    faces = edgefer.open_dataset(data, votes=votes, own_labels=own_labels, exclude=exclude, **reading)
    with event_files(tensorboard) as on_epoch:
        result = edgefer.train(
            faces, model, output, config, init=init, teachers=teachers, resume=resume, on_epoch=on_epoch
        )
    click.echo(
        f"{result.output}: top-1 {100 * result.best_val_top1:.2f} % on val "
        f"(epoch {result.best_epoch} of {result.epochs}, {result.seconds:.0f} s)"
    )
    if plots is not None:
        for path in write_training_report(plots, result.curve, output, faces):
            click.echo(path)
