"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

import functools
import math
import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefer.cli.help import option, section, spelt
from edgefer.limits import bounds, check_whole, name_fault

if TYPE_CHECKING:
    from edgefer.data import ReadSettings
    from edgefer.optimize.settings import BuildTarget, Quantisation


class _FilePath(click.Path):
    """A path that a file can have: an empty one would be the folder itself."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        fault = name_fault(os.fspath(value))
        if fault:
            raise click.UsageError(f"{'the path' if param is None else spelt(param)} {fault}", ctx)
        return super().convert(value, param, ctx)


PATH = _FilePath()


class Whole(click.IntRange):
    """A whole number within the bounds of its kind, see :func:`edgefer.limits.bounds`, whose reason a refusal says."""

    def __init__(self, kind: str) -> None:
        known = bounds(kind)
        super().__init__(known.smallest, known.largest)
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; click's own takes ３ and 1_000, and has no reasons."""
        text = str(value).strip()
        if not re.fullmatch("[+-]?[0-9]+", text):
            self.fail(f"'{text}' is no whole number", param, ctx)
        number = int(text[:40])  # more digits than that are out of bounds, and Python reads no more than 4,300
        check_whole(f"--{self.kind}" if param is None else param.opts[0], number, self.kind)
        return number


class _Share(click.ParamType):  # type: ignore[type-arg]  # click 8.1 is not generic
    """A share, typed as ``60%`` or ``0.6``; a bare 1 or more could mean either, and is refused."""

    name = "share"

    def __init__(self, maximum: float = 1.0) -> None:
        self.maximum = maximum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = str(value).strip()
        number, in_percent = _number(text.removesuffix("%")), text.endswith("%")
        if number is None or number < 0:
            self.fail(f"'{value}' is no percentage: write 60% or 0.6", param, ctx)
        if number >= 1 and not in_percent:
            self.fail(f"'{value}' is ambiguous: write {number:g}% or a share below 1, such as 0.6", param, ctx)
        share = number / 100 if in_percent else number
        if share > self.maximum:
            self.fail(f"'{value}' is more than {100 * self.maximum:g}%", param, ctx)
        return share


class _Points(click.ParamType):  # type: ignore[type-arg]  # click 8.1 is not generic
    """Points of top-1; ``0.5%`` could also mean a part of the accuracy, and is refused."""

    name = "points"

    def __init__(self, *, positive: bool = False) -> None:
        self.positive = positive

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        if str(value).strip().endswith("%"):
            plain = str(value).strip().removesuffix("%")
            self.fail(
                f"'{value}' is ambiguous: this is in points of top-1, from 65 % to 64 % is 1: write {plain}", param, ctx
            )
        number = _number(str(value))
        if number is None or (self.positive and number <= 0):
            wanted = "positive number" if self.positive else "number"
            self.fail(f"'{value}' is no {wanted} of points, such as 0.5", param, ctx)
        return number


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


SHARE, POINTS, POSITIVE_POINTS = _Share(), _Points(), _Points(positive=True)
ANY_SHARE = _Share(math.inf)
"""A share that may exceed 100 %, such as a slowdown."""


def check_suffix(flag: str, path: Path | None, *suffixes: str) -> None:
    """Refuse a file whose name says another format than ``flag`` writes."""
    if path is not None and path.suffix not in suffixes:
        likely = path.with_suffix(suffixes[0]).name if path.name.strip("-.") else f"report{suffixes[0]}"
        raise click.UsageError(f"{flag} writes {' or '.join(suffixes)}, not {path}: name it {likely}")


def _json_path(_: click.Context, parameter: click.Parameter, value: str | None) -> Path | None:
    path = None if value is None else Path(value)
    if path != STDOUT:
        check_suffix("--json", path, ".json")
    return path


def _usable_device(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """The device, if PyTorch can compute on it: said before any data are read."""
    from edgefer.errors import require
    from edgefer.runtimes import PYTORCH

    if value is not None:
        require(PYTORCH.package, PYTORCH.extra, f"--device {value}")
        from edgefer.models.device import torch_device

        torch_device(value)
    return value


def device(help_text: str) -> Callable[..., Any]:
    """The option ``--device``: where PyTorch computes."""
    return option("--device", metavar="cpu|cuda[:N]", callback=_usable_device, help=help_text)


STDOUT = Path("-")


def without_split(data: str) -> str:
    """``DATA`` of ``DATA:split``."""
    from edgefer.data.splits import NAMES

    head, colon, tail = data.rpartition(":")
    return head if colon and tail in NAMES else data


def tell_written(*paths: Path | None) -> None:
    """Name on stderr each file that was written."""
    from edgefer.progress import announce

    for path in paths:
        if path is not None:
            announce(f"wrote {path}")


def suggest(*words: str | Path) -> None:
    """Say on stderr which command to type next; ``words`` are quoted where a shell needs that."""
    from edgefer.progress import announce

    announce("next: edgefer " + shlex.join(map(str, words)))


def suggest_int8(model: Path) -> None:
    """Say which command to type after a model.onnx was written."""
    suggest("build-engine", model, "--int8", "--calib", "FACES", "-o", model.with_suffix(".int8.onnx"))


DATA_HELP = "DATA is a FER2013 or AffectNet csv, an npz, or one folder per class; DATA:SPLIT picks a split."
CALIB_HELP = (
    "DATA is a folder of images (one folder per class, or without labels), a text file with one path per line, an npz, "
    "or a FER2013 or AffectNet csv; DATA:SPLIT picks a split."
)

output = option("-o", "--output", type=PATH, required=True, help="The file to write.")
threads = option("--threads", type=Whole("threads"), default=1, show_default=True, help="Threads that the engine uses.")
as_json = option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
json_file = option(
    "--json",
    "json_file",
    is_flag=False,
    flag_value="-",
    metavar="FILE",
    callback=_json_path,
    help="Also write one JSON object; alone or with - it goes to stdout, and the table to stderr.",
)
votes = option(
    "--votes",
    metavar="FILE",
    default=None,
    help="FER+ votes to use as labels: fer2013new.csv, or 'npz' if inside it.",
)
exclude = option(
    "--exclude", metavar="DATA", default=None, help="Leave out faces that also occur in DATA, such as a test file."
)
seed = option("--seed", type=Whole("seed"), default=0, show_default=True, help="Seed of every random choice.")

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

    def check(self, target: str | BuildTarget, precision: str, **more: Any) -> None:
        """Refuse, before anything is read, what has no effect for ``target`` and ``precision``."""
        from edgefer.data import ReadSettings
        from edgefer.optimize.settings import refuse_idle

        self.settings.check(target, precision, **more)
        if self.settings.data is None:
            idle = [f"--{name}" for name in ("votes", "exclude") if getattr(self, name) is not None]
            refuse_idle([*idle, *(self.reading or ReadSettings()).given().values()], "without --calib")

    def opened(self, target: str | BuildTarget, precision: str, **more: Any) -> Quantisation:
        """The settings with their data open, checked before that for ``target`` and ``precision``."""
        from edgefer.data import open_dataset

        self.check(target, precision, **more)
        if self.settings.data is None:
            return self.settings
        data = open_dataset(str(self.settings.data), votes=self.votes, exclude=self.exclude, reading=self.reading)
        return replace(self.settings, data=data)


def quantisation(
    *more: Callable[..., Any], data: str, methods: tuple[str, ...] = ("minmax", "percentile", "entropy", "mse")
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options of :class:`edgefer.Quantisation` and ``more``; the command gets :class:`CalibrationOptions`.

    ``data`` explains ``--calib``.
    """
    chosen = "; auto takes the one closest to float" if "auto" in methods else ""
    listed = (
        option("--calib", "data", metavar="DATA", help=f"{data} {CALIB_HELP}"),
        option(
            "--calib-faces",
            "faces",
            type=Whole("count"),
            help="Number of calibration faces, stratified where they have labels.  [default: all; the recipe's where a "
            "calibration table ships]",
        ),
        option(
            "--per-class",
            type=Whole("count"),
            help="Calibrate on N faces of each class, or on all where fewer exist.",
        ),
        option(
            "--method",
            type=click.Choice(methods),
            help=f"How a histogram becomes a range{chosen}.  [default: the recipe's]",
        ),
        option(
            "--seed",
            type=Whole("seed"),
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
