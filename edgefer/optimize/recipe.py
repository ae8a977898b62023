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
    """How ranges are made: ``faces`` drawn stratified with ``seed``, histograms cut by ``method``.

    With ``per_class``, so many of each class instead of ``faces`` in all, or as many as there are.
    """

    faces: int
    seed: int
    method: str
    per_class: int | None = None

    def overridden(self, faces: int | None, per_class: int | None, seed: int | None, method: str | None) -> Recipe:
        """The same but for what is not None.

        Raises:
            EdgeferError: ``faces`` and ``per_class`` together, or an unknown method.
        """
        if faces is not None and per_class is not None:
            raise EdgeferError(
                f"{faces} faces in all and {per_class} of each class exclude each other",
                hint="leave out --calib-faces or --per-class",
            )
        chosen = self.method if method is None else method
        if chosen not in METHODS:
            raise EdgeferError(f"there is no calibration method '{chosen}'", hint=f"one of: {', '.join(METHODS)}")
        return Recipe(self.faces if faces is None else faces, self.seed if seed is None else seed, chosen, per_class)


def recipe_for(architecture: str) -> Recipe:
    """The recipe of ``architecture``, or the default one."""
    folder = recipes_folder()
    path = folder / f"{architecture}.json"
    content = json.loads((path if path.is_file() else folder / "default.json").read_text(encoding="utf-8"))
    return Recipe(int(content["faces"]), int(content["seed"]), str(content["method"]))


def recipes_folder() -> Path:
    """``calibration/``: inside an installed wheel, beside the package in a checkout."""
    package = Path(edgefer.__file__).parent
    inside = package / "calibration"
    return inside if inside.is_dir() else package.parent / "calibration"
