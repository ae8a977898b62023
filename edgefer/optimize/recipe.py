"""Calibration recipes: how many faces, which draw, which method; one small JSON file a network in ``calibration/``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import edgefer
from edgefer.errors import EdgeferError
from edgefer.quantize.thresholds import METHODS


@dataclass(frozen=True)
class Recipe:
    """How ranges are made: ``faces`` drawn stratified with ``seed``, histograms cut by ``method``."""

    faces: int
    seed: int
    method: str


def recipe_for(architecture: str) -> Recipe:
    """The recipe of ``architecture``, or the default one."""
    folder = recipes_folder()
    path = folder / f"{architecture}.json"
    content = json.loads((path if path.is_file() else folder / "default.json").read_text(encoding="utf-8"))
    return Recipe(int(content["faces"]), int(content["seed"]), str(content["method"]))


def recipe_of(architecture: str, faces: int | None, method: str | None, seed: int | None) -> Recipe:
    """The recipe of ``architecture`` with whatever else was asked for in its place.

    Raises:
        EdgeferError: there is no such method.
    """
    usual = recipe_for(architecture)
    recipe = Recipe(
        usual.faces if faces is None else faces,
        usual.seed if seed is None else seed,
        usual.method if method is None else method,
    )
    if recipe.method not in METHODS:
        raise EdgeferError(f"there is no calibration method '{recipe.method}'", hint=f"one of: {', '.join(METHODS)}")
    return recipe


def recipes_folder() -> Path:
    """``calibration/``: inside an installed wheel, beside the package in a checkout."""
    package = Path(edgefer.__file__).parent
    inside = package / "calibration"
    return inside if inside.is_dir() else package.parent / "calibration"
