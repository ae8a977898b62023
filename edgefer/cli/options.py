"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefer.cli.help import option, section

if TYPE_CHECKING:
    from edgefer.data import ReadSettings
    from edgefer.optimize.settings import BuildTarget, Quantisation

PATH = click.Path(path_type=Path)


def without_split(data: str) -> str:
    """``DATA`` of ``DATA:split``."""
    from edgefer.data.splits import NAMES

    head, colon, tail = data.rpartition(":")
    return head if colon and tail in NAMES else data


def suggest(*words: str | Path) -> None:
    """Say on stderr which command to type next; ``words`` are quoted where a shell needs that."""
    from edgefer.progress import announce

    announce("next: edgefer " + shlex.join(map(str, words)))


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

calibration_table = option(
    "--calibration-table", "table", type=PATH, help="Use this table of `edgefer calibrate` instead of faces."
)
no_rewrite = option("--no-rewrite", multiple=True, metavar="NAME", help="Leave out this rewrite pass (repeatable).")

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


@dataclass(frozen=True)
class CalibrationOptions:
    """The settings of calibration and quantisation as they were typed, and how their data are to be read."""

    settings: Quantisation
    votes: str | None
    exclude: str | None
    reading: ReadSettings | None

    def opened(self, target: str | BuildTarget, precision: str, **more: Any) -> Quantisation:
        """The settings with their data open, checked before that for ``target`` and ``precision``."""
        from edgefer.data import ReadSettings, open_dataset
        from edgefer.optimize.settings import refuse_idle

        self.settings.check(target, precision, **more)
        if self.settings.data is None:
            idle = [f"--{name}" for name in ("votes", "exclude") if getattr(self, name) is not None]
            refuse_idle([*idle, *(self.reading or ReadSettings()).given().values()], "without --calib")
            return self.settings
        data = open_dataset(str(self.settings.data), votes=self.votes, exclude=self.exclude, reading=self.reading)
        return replace(self.settings, data=data)


def quantisation(
    *more: Callable[..., Any], data: str, methods: tuple[str, ...] = ("minmax", "percentile", "entropy", "mse")
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options of :class:`edgefer.Quantisation` and ``more``; the command gets :class:`CalibrationOptions`.

    ``data`` explains ``--calib``.
    """
    chosen = "; auto takes the smallest error on `val`" if "auto" in methods else ""
    listed = (
        option("--calib", "data", metavar="DATA", help=f"{data} {DATA_HELP}"),
        option(
            "--calib-faces",
            "faces",
            type=click.IntRange(min=1),
            help="Number of calibration faces.  [default: the recipe's]",
        ),
        option(
            "--per-class",
            type=click.IntRange(min=1),
            help="Calibrate on N faces of each class, or on all where fewer exist.",
        ),
        option(
            "--method",
            type=click.Choice(methods),
            help=f"How a histogram becomes a range{chosen}.  [default: the recipe's]",
        ),
        option(
            "--seed",
            type=click.IntRange(min=0),
            help="Seed for sampling the calibration faces.  [default: the recipe's]",
        ),
        option(
            "--corrections",
            metavar="LIST",
            help="Corrections for better INT8: equalise, rounding, bias (comma-separated) or none.  "
            "[default: equalise,bias]",
        ),
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_settings(
            *arguments: Any,
            votes: str | None,
            exclude: str | None,
            reading: ReadSettings | None,
            corrections: str | None,
            **others: Any,
        ) -> Any:
            from edgefer.optimize.settings import Quantisation, parse_corrections

            given = {f.name: others.pop(f.name) for f in fields(Quantisation) if f.name in others}
            steps = None if corrections is None else parse_corrections(corrections)
            asked = CalibrationOptions(Quantisation(**given, corrections=steps), votes, exclude, reading)
            return command(*arguments, calibration=asked, **others)

        read = section("Reading DATA", votes, exclude, reading)(with_settings)
        return section("Calibration", *listed, *more)(read)

    return decorate
