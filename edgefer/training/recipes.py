"""Recipes: the settings that trained a network, one short TOML each; ``edgefer train --recipe`` repeats them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgefer.errors import EdgeferError
from edgefer.models.registry import architecture
from edgefer.toml_file import read_toml
from edgefer.training.config import TrainConfig

FOLDER = Path(__file__).parent / "recipes"
"""Those that come with edgefer: NAME.toml."""

_KINDS = {"int": ("a whole number", (int,)), "float": ("a number", (int, float)), "str": ("a text", (str,))}
"""Kind of a setting → what to call it, and what TOML may give."""

_KEYS = ("model", "note", "init", "teachers", "votes", "train")


@dataclass(frozen=True)
class Recipe:
    """One run of ``edgefer train``.

    Attributes:
        model: the network.
        note: on what the recipe was used, and what came out.
        settings: fields of :class:`TrainConfig`.
        init: the weights to begin with, or None: fresh ones.
        teachers: weights of the networks to learn from.
        votes: where FER+'s votes are, or None: FER2013's labels.
    """

    model: str
    note: str
    settings: dict[str, Any]
    init: Path | None = None
    teachers: tuple[Path, ...] = ()
    votes: str | None = None


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with edgefer."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_recipe(spec: str) -> Recipe:
    """A recipe by name, or from a TOML file with the keys of :class:`Recipe`; its settings are the table ``[train]``.

    Weights are files, seen from the folder that edgefer runs in, or names of weights that ship.

    Raises:
        EdgeferError: no such recipe; not TOML; an unknown key, network or setting; a setting of the wrong kind.
    """
    path = Path(spec) if spec.endswith(".toml") else FOLDER / f"{spec}.toml"
    content = read_toml(path, "recipe", f"a TOML file, or one of {', '.join(recipe_names())}")
    settings = content.get("train", {})
    known = {field.name: field.type for field in fields(TrainConfig)}
    unknown = [key for key in content if key not in _KEYS]
    unknown += [f"train.{key}" for key in settings if key not in known] if isinstance(settings, dict) else ["train"]
    if unknown or not isinstance(content.get("model"), str):
        fault = f"has the unknown key '{unknown[0]}'" if unknown else "names no model"
        raise EdgeferError(
            f"the recipe {path} {fault}",
            hint=f"it has {', '.join(_KEYS[:-1])} and a table [train] of {', '.join(known)}",
        )
    teachers = content.get("teachers", [])
    if not isinstance(teachers, list) or not all(isinstance(teacher, str) for teacher in teachers):
        raise EdgeferError(f"the recipe {path}: teachers is {teachers!r}", hint='a list: ["resnet11.safetensors"]')
    for key in ("init", "votes"):
        if not isinstance(content.get(key, ""), str):
            raise EdgeferError(f"the recipe {path}: {key} is {content[key]!r}", hint="it must be a text")
    architecture(content["model"])
    for key, value in settings.items():
        wanted, types = _KINDS[str(known[key]).partition(" ")[0]]
        if type(value) not in types:
            raise EdgeferError(f"the recipe {path}: train.{key} is {value!r}", hint=f"it must be {wanted}")
    TrainConfig(**settings)
    init = Path(content["init"]) if "init" in content else None
    taught_by = tuple(Path(teacher) for teacher in teachers)
    note = str(content.get("note", ""))
    return Recipe(content["model"], note, dict(settings), init, taught_by, content.get("votes"))
