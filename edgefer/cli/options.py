"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgefer.cli.help import option

PATH = click.Path(path_type=Path)

DATA_HELP = "DATA is a FER2013 or AffectNet csv, an npz, or one folder per class; DATA:SPLIT picks a split."

output = option("-o", "--output", type=PATH, required=True, help="The file to write.")
threads = option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads that the engine uses."
)
as_json = option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
votes = option(
    "--votes",
    metavar="FILE",
    default=None,
    help="FER+ votes to use as labels: fer2013new.csv, or 'npz' if inside it.",
)
exclude = option(
    "--exclude", metavar="DATA", default=None, help="Leave out faces that also occur in DATA, such as a test file."
)
seed = option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Seed of every random choice."
)

refine = option(
    "--refine",
    metavar="LIST",
    help="Corrections for better INT8: equalise, rounding, bias (comma-separated) or none.  [default: equalise,bias]",
)
per_class = option(
    "--per-class", type=click.IntRange(min=1), help="Calibrate on N faces of each class, or on all where fewer exist."
)
calib_faces = option(
    "--calib-faces", type=click.IntRange(min=1), help="Number of calibration faces.  [default: the recipe's]"
)
calib_seed = option(
    "--seed", type=click.IntRange(min=0), help="Seed for sampling the calibration faces.  [default: the recipe's]"
)
no_rewrite = option("--no-rewrite", multiple=True, metavar="NAME", help="Leave out this rewrite pass (repeatable).")


def recipe(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that override a calibration recipe, and ``--no-rewrite``."""
    decorated: Callable[..., Any] = command
    for add in (
        no_rewrite,
        refine,
        calib_seed,
        option(
            "--method",
            type=click.Choice(["minmax", "percentile", "entropy", "mse"]),
            help="How a histogram becomes a range.  [default: the recipe's]",
        ),
        per_class,
        calib_faces,
    ):
        decorated = add(decorated)
    return decorated


_HOW_TO_READ = (
    option(
        "--map",
        "relabelling",
        metavar="OLD=NEW,…",
        default=None,
        help="Rename classes of DATA to the network's; OLD= leaves a class out.",
    ),
    option("--classes", metavar="NAME", default=None, help="AffectNet classes: affectnet7, affectnet8 or affectnet9."),
    option("--root", metavar="FOLDER", default=None, help="Folder of the images that AffectNet's csv names."),
    option("--allow-missing", is_flag=True, help="Skip images that AffectNet's csv names and that are missing."),
    option("--boxes/--no-boxes", default=True, help="Crop to AffectNet's face boxes.  [default: boxes]"),
)


def reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how DATA is read; the command gets them as ``reading``, None where all are defaults."""

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
        how = None
        if relabelling is not None or classes is not None or root is not None or allow_missing or not boxes:
            from edgefer.data import ReadSettings, parse_map

            renamed = {} if relabelling is None else parse_map(relabelling)
            how = ReadSettings(classes, root, allow_missing, boxes, renamed)
        return command(*arguments, reading=how, **others)

    decorated: Callable[..., Any] = with_reading
    for add in reversed(_HOW_TO_READ):
        decorated = add(decorated)
    return decorated
