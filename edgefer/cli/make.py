"""Commands that make a model: quickstart, train and export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefer.cli import options
from edgefer.cli.help import command, option, section
from edgefer.errors import EdgeferError

if TYPE_CHECKING:
    from edgefer.data import ReadSettings
    from edgefer.training import OwnNetwork


@command(
    examples=(
        "edgefer quickstart",
        "edgefer quickstart --data faces/ --seconds 300",
    )
)
@option("--data", metavar="DATA", default=None, help=f"Use real faces instead of synthetic ones. {options.DATA_HELP}")
@option("--model", metavar="NAME", default="cliquenet", show_default=True, help="Network: see `edgefer models`.")
@option("--seconds", type=click.FloatRange(min=1), default=40.0, show_default=True, help="Time for training.")
@option(
    "-o",
    "--output",
    type=options.PATH,
    metavar="FOLDER",
    default=Path("quickstart"),
    show_default=True,
    help="The folder to write to.",
)
@options.seed
def quickstart(data: str | None, model: str, output: Path, seconds: float, seed: int) -> None:
    """Train, export, build INT8 and bench, all in one command.

    It begins with the weights that ship for the network. Without --data it makes synthetic faces: nothing else is
    needed, and nothing is downloaded.
    """
    from edgefer.quickstart import run
    from edgefer.report.terminal import print_report

    result = run(output, data=data, model=model, seconds=seconds, seed=seed)
    print_report(result.report)
    click.echo("\nfiles:")
    for path, what in result.files:
        click.echo(f"  {path}  {what}")
    click.echo(f"\n{result.verdict}.\n\nnext:")
    for line, purpose in result.next_commands:
        click.echo(f"  # {purpose}\n  {line}")


@command(
    examples=(
        "edgefer train --model mini_xception --data fer2013.csv -o mini.safetensors",
        "edgefer train --recipe lenet --data fer2013.csv -o lenet.safetensors",
    )
)
@section(
    "What is trained",
    option("--model", metavar="NAME", help="Network: see `edgefer models`.  [default: the recipe's]"),
    option("--module", metavar="PKG.MOD:FACTORY", help="Your own network instead: see `edgefer export --help`."),
    option(
        "--contract",
        type=options.PATH,
        needs="--module",
        help="With --module: labels, input and normalisation, as TOML.  [default: that of --init]",
    ),
    option("--recipe", metavar="NAME|FILE", help="Shipped settings or a TOML file; the options below override them."),
    option("--init", type=options.PATH, help="Fine-tune these weights.  [default: random ones]"),
    option("--size", type=click.IntRange(16, 256), help="Pixels per side.  [default: --init's, or the network's own]"),
    options.output,
    option("--resume/--fresh", default=True, show_default=True, help="Continue from OUTPUT.state if it exists."),
)
@section(
    "Data",
    option("--data", metavar="DATA", required=True, help=f"Faces to train on. {options.DATA_HELP}"),
    options.votes,
    option("--own-labels", is_flag=True, help="Keep DATA's labels and use the votes for --vote-share only."),
    options.exclude,
    options.reading,
    option("--sampling", type=click.Choice(["shuffled", "balanced"]), help="Order of the faces.  [default: shuffled]"),
)
@section(
    "Schedule",
    option("--epochs", type=options.Whole("epochs"), help="Passes over the `fit` faces.  [default: 100]"),
    option("--max-seconds", type=click.FloatRange(min=1), help="Stop by then; the schedule is shortened to fit."),
    option("--batch", "batch_size", type=options.Whole("batch"), help="Faces per step.  [default: the network's]"),
    option("--optimiser", type=click.Choice(["adamw", "adam", "sgd"]), help="Optimiser.  [default: adamw]"),
    option("--lr", type=float, help="Peak learning rate.  [default: the network's]"),
    option("--head-lr", type=float, help="Factor on the learning rate of the last layer.  [default: 1]"),
    option("--weight-decay", type=float, help="Weight decay of weights, not of biases or norms.  [default: 1e-4]"),
    option("--warmup", type=float, help="Share of the run in which the rate rises.  [default: 0.05]"),
    option("--schedule", type=click.Choice(["cosine", "step"]), help="How the rate falls.  [default: cosine]"),
    option("--frozen", type=float, help="Share of the run in which only the last layer learns.  [default: 0]"),
    option("--clip", type=float, help="Largest norm of the gradient.  [default: 5]"),
    option("--ema-decay", type=float, help="Decay of the averaged weights that are kept; 0: none.  [default: 0.998]"),
    option(
        "--keep", type=click.Choice(["top1", "loss"]), help="What makes an epoch the best on `val`.  [default: top1]"
    ),
    option("--patience", type=options.Whole("epochs"), help="Stop after N epochs without a better `val`."),
)
@section(
    "Loss",
    option("--label-smoothing", type=float, help="Share of each target spread over all classes.  [default: 0]"),
    option("--class-weights", type=click.Choice(["none", "sqrt", "balanced"]), help="Class weights.  [default: none]"),
    option("--vote-share", type=float, help="Share of each target that comes from FER+'s votes.  [default: 0]"),
    option(
        "--teacher",
        "teachers",
        type=options.PATH,
        multiple=True,
        help="Distil from these weights (repeatable), or from a file of `edgefer teacher-logits`.",
    ),
    option("--teacher-share", type=float, help="Share of the loss that is distillation.  [default: 0.7]"),
    option("--temperature", type=float, help="Temperature of the distillation.  [default: 2]"),
)
@section(
    "Augmentation",
    option("--augment", type=float, help="Strength: 1 is ±10° and ±10 %, 0 is none.  [default: 1]"),
    option("--erasing", type=float, help="Probability of blanking a rectangle.  [default: 0]"),
    option("--noise", type=float, help="Largest share of salt-and-pepper pixels.  [default: 0]"),
    option("--crop", type=float, help="Largest share cut off by a random crop.  [default: 0]"),
    option("--degrade", type=float, help="Probability each of blur, low resolution, gamma, noise, JPEG.  [default: 0]"),
    option("--mixup", type=float, help="Mixup: α of Beta(α, α).  [default: 0]"),
)
@section(
    "Computing",
    options.device("Train on the CPU or on a GPU.  [default: cpu]"),
    option(
        "--precision",
        type=click.Choice(["fp32", "bf16"]),
        help="fp32, or bf16 by autocast.  [default: bf16 on a GPU that has it, else fp32]",
    ),
    option("--threads", type=options.Whole("threads"), default=None, help="Threads of PyTorch.  [default: its own]"),
    option("--seed", type=options.Whole("seed"), help="Seed of every random choice.  [default: 0]"),
)
@section(
    "Curves",
    option("--plots", type=options.PATH, metavar="FOLDER", help="Write curves and confusion matrix as CSV and PNG."),
    option("--tensorboard", type=options.PATH, metavar="FOLDER", help="Write TensorBoard event files while training."),
)
def train(  # noqa: PLR0913 - a click command's options
    model: str | None,
    module: str | None,
    contract: Path | None,
    recipe: str | None,
    data: str,
    votes: str | None,
    own_labels: bool,
    exclude: str | None,
    reading: ReadSettings | None,
    init: Path | None,
    teachers: tuple[Path, ...],
    output: Path,
    plots: Path | None,
    tensorboard: Path | None,
    resume: bool,
    **settings: Any,
) -> None:
    """Train a network; the epoch that is best on `val` is kept."""
    import edgefer
    from edgefer.progress import announce
    from edgefer.report.training import after_each_epoch, write_training_report
    from edgefer.training import TrainConfig

    given = {name: value for name, value in settings.items() if value is not None}
    if recipe is not None:
        from edgefer.training.config import load_recipe

        found = load_recipe(recipe)
        announce(f"recipe {recipe}: {found.note}")
        model, given = model or (None if module else found.model), {**found.settings, **given}
        init, teachers, votes = init or found.init, teachers or found.teachers, votes or found.votes
    if output in (init, *teachers):
        raise EdgeferError(f"{output} is to be written, and is what training begins with", hint="-o another file")
    if model is not None and module is not None:
        raise click.UsageError("--model and --module both name the network: leave out one")
    if model is None and module is None:
        raise click.UsageError("say which network: --model NAME, --module PKG.MOD:FACTORY or --recipe")
    if not teachers and ("teacher_share" in given or "temperature" in given):
        raise EdgeferError("teacher-share and temperature need teachers, and there is none", hint="--teacher FILE")
    if own_labels and votes is None:
        raise click.UsageError("--own-labels says what --votes leaves as it is: pass --votes too")
    config = TrainConfig(**given)
    network = model if module is None else _own_network(module, contract, init)
    assert network is not None  # one of the two is given
    with after_each_epoch(plots, tensorboard) as on_epoch:
        faces = edgefer.open_dataset(data, votes=votes, own_labels=own_labels, exclude=exclude, reading=reading)
        result = edgefer.train(
            faces, network, output, config, init=init, teachers=teachers, resume=resume, on_epoch=on_epoch
        )
    click.echo(
        f"{result.output}: top-1 {100 * result.best_val_top1:.2f} % on val "
        f"(epoch {result.best_epoch} of {result.epochs}, {result.seconds:.0f} s)"
    )
    if plots is not None:
        for path in write_training_report(plots, result.curve, output, faces, module):
            click.echo(path)
    own = () if module is None else ("--module", module)
    options.suggest("export", *own, "--weights", output, "-o", output.with_suffix(".onnx"))


def _own_network(module: str, contract: Path | None, init: Path | None) -> OwnNetwork:
    from edgefer.contract_file import read_contract
    from edgefer.models.weights import load_weights
    from edgefer.training import OwnNetwork

    found = None if contract is None else read_contract(contract)
    if found is None and init is not None:
        found = load_weights(init).contract
    if found is None:
        raise click.UsageError("--module goes with --contract FILE: labels, input and normalisation")
    return OwnNetwork(module, found)


@command(
    "teacher-logits",
    examples=(
        "edgefer teacher-logits cliquenet --data fer2013.csv -o cliquenet.npz",
        "edgefer teacher-logits teacher.safetensors --data fer.npz --votes npz -o t.npz",
    ),
)
@click.argument("weights", type=options.PATH)
@option("--data", metavar="DATA", required=True, help=f"Faces, of which `fit` is used. {options.DATA_HELP}")
@options.votes
@options.exclude
@options.reading
@options.output
def teacher_logits(
    weights: Path, data: str, votes: str | None, exclude: str | None, reading: ReadSettings | None, output: Path
) -> None:
    """Write a teacher's logits, to distil from without it.

    The file has those of each face and its flip, and no pixels. `edgefer train --teacher FILE.npz` learns from it.
    """
    import edgefer
    from edgefer.errors import require

    require("torch", "export", "asking a teacher")
    from edgefer.training.teacher_logits import write_teacher_logits

    faces = edgefer.open_dataset(data, votes=votes, exclude=exclude, reading=reading).picked_or("fit")
    count = write_teacher_logits(weights, faces, output)
    click.echo(f"{output}: logits of {weights} for {count:,} faces of {faces.origin} and their flips")


@command(
    examples=(
        "edgefer export --model mini_xception -o model.onnx",
        "edgefer export --module nets:Net --contract c.toml --weights n.pth -o n.onnx",
    )
)
@section(
    "Network (at most one of the two)",
    option("--model", metavar="NAME", help="Network of the zoo.  [default: the one that --weights says it is for]"),
    option(
        "--module",
        metavar="PKG.MOD:FACTORY",
        help="Your own network: a function or class that returns a torch.nn.Module, found here or on PYTHONPATH.",
    ),
)
@section(
    "Weights and contract",
    option("--weights", type=options.PATH, help="Weights file.  [default: those that ship, or the factory's own]"),
    option("--random-weights", is_flag=True, help="Use untrained weights, to measure speed only."),
    option("--contract", type=options.PATH, help="With --module: labels, input and normalisation, as TOML."),
    option("--labels", metavar="A,B,…", help="Class names in the order of the outputs, where the weights lack them."),
)
@options.output
@option("--simplify/--no-simplify", default=True, show_default=True, help="Run onnxsim on the graph.")
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
    """Write a network as ONNX, normalisation included.

    The file is checked against PyTorch before it is written.
    """
    if (model is None and module is None and weights is None) or (model is not None and module is not None):
        raise click.UsageError("say which network: --model NAME, or --module PKG.MOD:FACTORY with --contract FILE")
    if module is not None:
        if ":" not in module:
            raise click.UsageError(f"--module is PKG.MOD:FACTORY, and '{module}' names no factory")
        if (contract is None and weights is None) or random_weights or labels is not None:
            raise click.UsageError("--module goes with --contract FILE, and not with --random-weights or --labels")
    elif contract is not None:
        raise click.UsageError("--contract goes with --module: a network of the zoo has its own")
    import edgefer

    result = edgefer.export(
        model or module,
        output,
        weights=weights,
        random_weights=random_weights,
        labels=None if labels is None else [label.strip() for label in labels.split(",")],
        contract=contract,
        simplify=simplify,
    )
    click.echo(
        f"{result.path}: {result.bytes / 1e6:.2f} MB, {_millions(result.macs)} MACs; "
        f"{result.parameters:,} parameters of the PyTorch network; "
        f"{result.nodes} nodes, {'simplified' if result.simplified else 'not simplified'}; "
        f"largest difference from PyTorch {result.max_abs_diff:.2e}"
    )
    options.suggest_int8(result.path)


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M" if count < 1e8 else f"{count / 1e6:,.0f} M"
