"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)

DATA_HELP = (
    "A FER2013 or AffectNet csv, an npz (images, labels), or a folder with a folder a class; PATH:SPLIT picks a split."
)

output = click.option("-o", "--output", type=PATH, required=True, help="The file to write.")
threads = click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of the engine."
)
votes = click.option("--votes", default=None, help="FER+ labels: fer2013new.csv, or 'npz' for the votes inside an npz.")
exclude = click.option(
    "--exclude",
    metavar="DATA",
    default=None,
    help="Leave out faces that also stand in DATA, e.g. a separate test file.",
)
seed = click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Seed of every random choice."
)


refine = click.option(
    "--refine",
    metavar="STEPS",
    help="What is done for better INT8: a list of equalise, rounding, bias, or none.  [default: equalise,bias]",
)
per_class = click.option(
    "--per-class", type=click.IntRange(min=1), help="Calibrate on so many faces of each class, or all there are."
)


def recipe(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that override a calibration recipe, and ``--no-rewrite``."""
    decorated: Callable[..., Any] = command
    for option in (
        click.option("--no-rewrite", multiple=True, metavar="NAME", help="Leave out a rewrite pass; may be repeated."),
        refine,
        click.option("--seed", type=click.IntRange(min=0), help="Of the draw of faces.  [default: the recipe's]"),
        click.option(
            "--method",
            type=click.Choice(["minmax", "percentile", "entropy", "mse"]),
            help="How a histogram becomes a range.  [default: the recipe's]",
        ),
        per_class,
        click.option("--calib-faces", type=click.IntRange(min=1), help="How many, in all.  [default: the recipe's]"),
    ):
        decorated = option(decorated)
    return decorated


_HOW_TO_READ = (
    click.option(
        "--map",
        "relabelling",
        metavar="OLD=NEW,…",
        default=None,
        help="Rename classes of DATA to the network's; OLD= leaves a class out.",
    ),
    click.option("--classes", metavar="NAME", default=None, help="Of AffectNet: affectnet7, affectnet8 or affectnet9."),
    click.option("--root", metavar="FOLDER", default=None, help="Where the images lie that AffectNet's csv names."),
    click.option("--allow-missing", is_flag=True, help="Go on without images that the csv names and that are missing."),
    click.option("--boxes/--no-boxes", default=True, help="Cut out AffectNet's face boxes.  [default: boxes]"),
)


def reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how DATA are read; the command gets them as ``reading``.

    Those are keyword arguments of :func:`edgefer.open_dataset`, what was left at its default not among them.
    """

    @functools.wraps(command)
    def with_reading(
        *arguments: Any,
        relabelling: str | None,
        classes: str | None,
        root: str | None,
        allow_missing: bool,
        boxes: bool,
        **others: Any,
    ) -> Any:
        asked = {
            "classes": classes,
            "root": root,
            "allow_missing": allow_missing or None,
            "boxes": None if boxes else False,
        }
        how: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        if relabelling is not None:
            from edgefer.data import parse_map

            how["relabelling"] = parse_map(relabelling)
        return command(*arguments, reading=how, **others)

    decorated: Callable[..., Any] = with_reading
    for option in reversed(_HOW_TO_READ):
        decorated = option(decorated)
    return decorated
