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


@dataclass(frozen=True)
class Recipe:
    """``settings`` are fields of :class:`TrainConfig`; ``note`` says on what it was used and what came out."""

    model: str
    note: str
    settings: dict[str, Any]


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with edgefer."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_recipe(spec: str) -> Recipe:
    """A recipe by name, or from a TOML file: ``model``, ``note`` and a table ``[train]``.

    Raises:
        EdgeferError: no such recipe; not TOML; an unknown key, network or setting; a setting of the wrong kind.
    """
    path = Path(spec) if spec.endswith(".toml") else FOLDER / f"{spec}.toml"
    content = read_toml(path, "recipe", f"a TOML file, or one of {', '.join(recipe_names())}")
    settings = content.get("train", {})
    known = {field.name: field.type for field in fields(TrainConfig)}
    unknown = [key for key in content if key not in ("model", "note", "train")]
    unknown += [f"train.{key}" for key in settings if key not in known] if isinstance(settings, dict) else ["train"]
    if unknown or not isinstance(content.get("model"), str):
        fault = f"has the unknown key '{unknown[0]}'" if unknown else "names no model"
        raise EdgeferError(
            f"the recipe {path} {fault}", hint=f"it has model, note and a table [train] of {', '.join(known)}"
        )
    architecture(content["model"])
    try:
        TrainConfig(**settings)
    except TypeError as cause:
        raise EdgeferError(f"the recipe {path}: a setting is of the wrong kind: {cause}") from cause
    return Recipe(content["model"], str(content.get("note", "")), dict(settings))
