"""Contracts as TOML files, which people write for networks of their own: reading, checking, rendering, a template."""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefer.contract import Contract, Normalisation
from edgefer.errors import EdgeferError
from edgefer.intake import read_toml, reading

_HINT = "`edgefer contract new` writes a template with every key explained"
_KEYS: Mapping[str, tuple[str, ...]] = {
    "": ("architecture", "labels", "crop_margin", "test_time_flip", "input", "normalisation", "lineage"),
    "input": ("height", "width", "channels"),
    "normalisation": ("scale", "mean", "std"),
}
_OPTIONAL = ("crop_margin", "test_time_flip", "lineage")


@dataclass(frozen=True)
class Draft:
    """A contract of which something may be missing.

    Attributes:
        contract: with any value in place of what is missing.
        missing: its keys: ``architecture``, ``labels``, ``input.height``, ``normalisation.mean``, ….
    """

    contract: Contract
    missing: tuple[str, ...]


def read_contract(path: str | os.PathLike[str]) -> Contract:
    """Read a contract from a TOML file.

    Raises:
        EdgeferError: no such file, no TOML (says where), a key that is missing, unknown, left unfilled (all of them are
            named) or of the wrong kind (says which), or values that no contract can have.
    """
    file = Path(path)
    content = _read(file)
    unfilled = _unfilled(content)
    if len(unfilled) > 1:
        raise EdgeferError(f"{file} is not filled in: {', '.join(unfilled)} are empty", hint=_HINT)
    with reading(file, _HINT, "a contract"):
        return _contract(content, file)


def read_draft(path: str | os.PathLike[str]) -> Draft:
    """Read a contract that is not filled in yet.

    Raises:
        EdgeferError: as :func:`read_contract`, but for what is empty.
    """
    with reading(path, _HINT, "a contract"):
        return _draft(_read(Path(path)), path)


def _draft(content: Mapping[str, Any], path: str | os.PathLike[str]) -> Draft:
    missing = _unfilled(content)
    channels = content["input"]["channels"] or 1
    anything = {
        "architecture": "network",
        "labels": ["a", "b"],
        **{f"input.{key}": 1 for key in _KEYS["input"]},
        "normalisation.scale": 1.0,
        "normalisation.mean": [0.0] * channels,
        "normalisation.std": [1.0] * channels,
    }
    filled: dict[str, Any] = {key: dict(value) if isinstance(value, dict) else value for key, value in content.items()}
    for key in missing:
        section, _, name = key.rpartition(".")
        (filled[section] if section else filled)[name] = anything[key]
    return Draft(_contract(filled, Path(path)), missing)


def _read(file: Path) -> dict[str, Any]:
    content = read_toml(file, "contract", _HINT)
    _check_keys(content, "", file)
    for name in ("input", "normalisation"):
        _section(content, name, file)
    return content


def _unfilled(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys of the values that are as in the template."""
    values = {"architecture": content["architecture"], "labels": content["labels"]}
    for section in ("input", "normalisation"):
        values.update({f"{section}.{key}": content[section][key] for key in _KEYS[section]})
    return tuple(key for key, value in values.items() if value in ("", [], 0) and value is not False)


def _contract(content: Mapping[str, Any], file: Path) -> Contract:
    size = {key: _whole(content["input"][key], f"input.{key}", file) for key in _KEYS["input"]}
    norm = content["normalisation"]
    lineage = content.get("lineage", {})
    if not isinstance(lineage, dict):
        raise _bad(file, "lineage", lineage, "a table of texts")
    try:
        return Contract(
            labels=_labels(content["labels"], file),
            height=size["height"],
            width=size["width"],
            channels=size["channels"],
            normalisation=Normalisation(
                _scale(norm["scale"], file),
                _numbers(norm["mean"], "normalisation.mean", file),
                _numbers(norm["std"], "normalisation.std", file),
            ),
            architecture=_name(content["architecture"], file),
            crop_margin=_number(content.get("crop_margin", 0.0), "crop_margin", file),
            test_time_flip=_truth(content.get("test_time_flip", False), "test_time_flip", file),
            lineage={str(key): str(value) for key, value in lineage.items()},
        )
    except EdgeferError as fault:
        if str(file) in fault.message:
            raise
        raise EdgeferError(f"{file}: {fault.message}", hint=_HINT) from fault


def render_contract(contract: Contract, notes: Sequence[str] = ()) -> str:
    """TOML that :func:`read_contract` reads back to the same contract; ``notes`` are comments above it."""
    norm = contract.normalisation
    return contract_text(
        architecture=contract.architecture,
        labels=contract.labels,
        size=contract.face_shape,
        normalisation=norm,
        crop_margin=contract.crop_margin,
        test_time_flip=contract.test_time_flip,
        lineage=contract.lineage,
        notes=notes,
    )


def contract_text(
    *,
    architecture: str = "",
    labels: Sequence[str] = (),
    size: tuple[int, int, int] = (0, 0, 0),
    normalisation: Normalisation | None = None,
    crop_margin: float = 0.0,
    test_time_flip: bool = False,
    lineage: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """A commented contract in TOML; what is not given stays unfilled, and :func:`read_contract` asks for it by name.

    Args:
        architecture: name of the network.
        labels: class names in the order of the outputs.
        size: height, width, channels.
        normalisation: how the graph normalises the pixels.
        crop_margin: see :class:`~edgefer.contract.Contract`.
        test_time_flip: see there too.
        lineage: origin of the network.
        notes: comments above everything else.
    """
    norm = normalisation or Normalisation(0.0, (), ())
    height, width, channels = size
    lines = [f"# {note}".rstrip() for note in notes]
    lines += [
        *([""] if notes else []),
        f"architecture = {_text(architecture)}  # what to call the network in reports",
        "",
        "# Class names in the order of the network's outputs. Data sets of edgefer call the eight expressions",
        "# neutral happy surprise sad angry disgust fear contempt; other names need --map where data are read.",
        f"labels = [{', '.join(_text(label) for label in labels)}]",
        "",
        "# Part of a face box's size that the camera adds on each side before it crops: as training faces were cut.",
        f"crop_margin = {crop_margin!r}",
        "",
        "# true: test-time augmentation, the mean of the logits of a face and its horizontal flip: twice the work.",
        f"test_time_flip = {str(test_time_flip).lower()}",
        "",
        "[input]  # of one face as the network was trained with it, in pixels",
        f"height = {height}",
        f"width = {width}",
        f"channels = {channels}  # 1: grey, 3: RGB",
        "",
        "# y = (x * scale - mean) / std for a pixel x from 0 to 255, one mean and one std per channel. Typical:",
        '#   faces from 0 to 1:     scale = "1/255", mean = [0.0], std = [1.0]',
        '#   faces from -1 to 1:    scale = "1/255", mean = [0.5], std = [0.5]',
        '#   ImageNet (torchvision): scale = "1/255", mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225]',
        "#   scaled by the network itself: scale = 1.0, mean = [0.0], std = [1.0]",
        "[normalisation]",
        f"scale = {_fraction(norm.scale)}",
        f"mean = [{', '.join(repr(value) for value in norm.mean)}]",
        f"std = [{', '.join(repr(value) for value in norm.std)}]",
    ]
    if lineage:
        lines += ["", "[lineage]"] + [f"{_text(key)} = {_text(value)}" for key, value in sorted(lineage.items())]
    return "\n".join(lines) + "\n"


def changed_lines(old: Contract, new: Contract) -> tuple[str, ...]:
    """The lines of ``new`` in TOML that ``old`` has otherwise, below the heading of their section."""
    before, lines, heading = set(render_contract(old).splitlines()), [], ""
    for line in render_contract(new).splitlines():
        if line.startswith("["):
            heading = line.partition("  #")[0]
        elif line not in before and not line.startswith("#"):
            lines += [heading, line] if heading else [line]
            heading = ""
    return tuple(lines)


def template() -> str:
    """A contract with everything explained and nothing filled in."""
    return contract_text(
        notes=("What a network takes and returns: fill in every value; `edgefer` asks for those left empty.",)
    )


def _section(content: Mapping[str, Any], name: str, file: Path) -> Mapping[str, Any]:
    section = content[name]
    if not isinstance(section, dict):
        raise _bad(file, name, section, f"a table: [{name}]")
    _check_keys(section, name, file)
    return section


def _check_keys(found: Mapping[str, Any], section: str, file: Path) -> None:
    known = _KEYS[section]
    prefix = f"{section}." if section else ""
    for key in found:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            meant = f"did you mean '{prefix}{close[0]}'? " if close else ""
            raise EdgeferError(f"{file} has an unknown key '{prefix}{key}'", hint=f"{meant}known: {', '.join(known)}")
    missing = [f"{prefix}{key}" for key in known if key not in found and key not in _OPTIONAL]
    if missing:
        raise EdgeferError(f"{file} lacks {', '.join(missing)}", hint=_HINT)


def _labels(value: Any, file: Path) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(label, str) and label.strip() for label in value):
        raise _bad(file, "labels", value, "a list of class names")
    if not value:
        raise EdgeferError(
            f"{file}: labels is empty", hint="give the class names in the order of the network's outputs"
        )
    return tuple(value)


def _name(value: Any, file: Path) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _bad(file, "architecture", value, "a name for the network")
    return value


def _whole(value: Any, key: str, file: Path) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _bad(file, key, value, "a whole number of 1 or more")
    return value


def _number(value: Any, key: str, file: Path) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise _bad(file, key, value, "a number")
    return float(value)


def _truth(value: Any, key: str, file: Path) -> bool:
    if not isinstance(value, bool):
        raise _bad(file, key, value, "true or false")
    return value


def _numbers(value: Any, key: str, file: Path) -> tuple[float, ...]:
    if not isinstance(value, list) or not value:
        raise _bad(file, key, value, "a list with one number per channel")
    return tuple(_number(item, key, file) for item in value)


def _scale(value: Any, file: Path) -> float:
    """A number, or a fraction as text: ``"1/255"``."""
    wanted = 'a number other than 0, or a fraction such as "1/255"'
    if isinstance(value, str):
        above, _, below = value.partition("/")
        try:
            value = float(above) / float(below)
        except (ValueError, ZeroDivisionError) as cause:
            raise _bad(file, "normalisation.scale", value, wanted) from cause
    if _number(value, "normalisation.scale", file) == 0:
        raise _bad(file, "normalisation.scale", value, wanted)
    return float(value)


def _bad(file: Path, key: str, value: Any, wanted: str) -> EdgeferError:
    return EdgeferError(f"{file}: {key} is {json.dumps(value, default=str)}, not {wanted}", hint=_HINT)


def _text(value: str) -> str:
    """A TOML basic string: JSON's escapes are a subset of TOML's."""
    return json.dumps(value, ensure_ascii=False)


def _fraction(value: float) -> str:
    return '"1/255"' if value == 1.0 / 255.0 else repr(value)
