"""Training settings, which are checked when they are given, and the recipes that trained each network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from edgefer.errors import EdgeferError
from edgefer.intake import read_toml
from edgefer.limits import check_whole
from edgefer.models.registry import architecture

OPTIMISERS = ("adamw", "adam", "sgd")
CLASS_WEIGHTS = ("none", "sqrt", "balanced")
PRECISIONS = ("fp32", "bf16")
SCHEDULES = ("cosine", "step")
SAMPLINGS = ("shuffled", "balanced")
KEEPS = ("top1", "loss")
DEFAULT_BATCH_SIZE, DEFAULT_LR = 64, 1e-3
FROM_RANDOM_WEIGHTS: Mapping[str, Mapping[str, Any]] = {"vgg9": {"lr": 3e-4}}
"""Settings of networks whose recipe fine-tunes, where they start anew; without batch norms, high rates diverge."""


_WHOLE = {"epochs": "epochs", "batch_size": "batch", "patience": "epochs", "threads": "threads", "seed": "seed"}
"""Setting → the kind of its bounds."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run.

    Attributes:
        epochs: maximum number of passes over the fit faces.
        max_seconds: time limit, to which the schedule is shortened; None: no limit, and the run repeats bit for bit.
        size: side of the faces in pixels; None: that of the weights that the run starts from, or the network's own.
            Other sizes are for networks that end in a global mean; time grows with their square.
        batch_size, lr: faces in a step and peak learning rate; None: those of the network's recipe.
        optimiser: ``adamw``, ``adam`` or ``sgd`` (Nesterov momentum 0.9).
        weight_decay: on weights of convolutions and fully connected layers only.
        warmup: the part of the run in which the learning rate rises from 0.
        schedule: learning rate after the warm-up: ``cosine`` to 0, or ``step``: ÷ 10 after ½ of the run, ÷ 100 after ¾.
        head_lr: factor on the learning rate of the last layer: above 1 where the rest was trained before.
        frozen: the part of the run in which only the last layer learns.
        sampling: ``shuffled``: every face once in each epoch; ``balanced``: as many faces, every class equally often.
        label_smoothing: share of the target that is spread over all classes.
        vote_share: share of the target given to FER+'s votes, translated where the labels are not the taggers'
            (:class:`edgefer.training.losses.Opinions`); the label has the rest. Needs votes.
        teacher_share: share of the loss against the teachers' answers, where there are teachers.
        temperature: softens the teachers' answers; 1 leaves them as they are.
        class_weights: weights of the loss: ``none``, or by inverse frequency (``balanced``) or its root (``sqrt``).
        augment: strength; 1 is ±10° rotation, ±10 % shift and zoom, horizontal flips, light and contrast; 0 is none.
        erasing: probability that a rectangle of a face is blanked.
        noise: maximum share of a face's pixels that turn black or white; each face has a share of its own.
        crop: maximum share of a face's area that is cut off around a window of random place and shape.
        degrade: probability of each of five degradations of a face, as a deployed camera's are: blur, low resolution,
            gamma, noise and JPEG (:func:`edgefer.training.degrade.degrade`).
        mixup: α of the Beta distribution of the shares in which faces are blended in pairs; 0: none.
        ema_decay: decay of the moving average of weights that is evaluated and kept; 0 keeps the last weights.
        keep: the epoch whose weights are kept: of the highest ``top1`` on val (of equals, the lower loss), or of
            the lowest ``loss``, which varies less by chance.
        clip: maximum norm of the gradient; None: no limit.
        patience: number of epochs without a better one (by ``keep``) after which the run stops; None: never.
        device: ``cpu``, ``cuda`` or ``cuda:N``. Runs repeat bit for bit on a CPU only.
        precision: ``fp32``, or ``bf16`` for autocast (faster only where the CPU has bf16 instructions); None: ``bf16``
            on a GPU that has it, else ``fp32``.
        threads: PyTorch's; None leaves them as they are. The same number is needed to repeat a run bit for bit.
        seed: seed of weights, order, augmentation and dropout.
        checkpoint_seconds: interval at which the state to resume from is written.
    """

    epochs: int = 100
    max_seconds: float | None = None
    size: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    optimiser: str = "adamw"
    weight_decay: float = 1e-4
    warmup: float = 0.05
    schedule: str = "cosine"
    head_lr: float = 1.0
    frozen: float = 0.0
    sampling: str = "shuffled"
    label_smoothing: float = 0.0
    vote_share: float = 0.0
    teacher_share: float = 0.7
    temperature: float = 2.0
    class_weights: str = "none"
    augment: float = 1.0
    erasing: float = 0.0
    noise: float = 0.0
    crop: float = 0.0
    degrade: float = 0.0
    mixup: float = 0.0
    ema_decay: float = 0.998
    keep: str = "top1"
    clip: float | None = 5.0
    patience: int | None = None
    device: str = "cpu"
    precision: str | None = None
    threads: int | None = None
    seed: int = 0
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, options in (
            ("optimiser", OPTIMISERS),
            ("class_weights", CLASS_WEIGHTS),
            ("precision", (*PRECISIONS, None)),
            ("schedule", SCHEDULES),
            ("sampling", SAMPLINGS),
            ("keep", KEEPS),
        ):
            if getattr(self, name) not in options:
                known = ", ".join(filter(None, options))
                raise EdgeferError(f"{name} is '{getattr(self, name)}'", hint=f"choose one of {known}")
        self._require("size", lambda value: 16 <= value <= 256, "from 16 to 256")
        for name, kind in _WHOLE.items():
            check_whole(name, getattr(self, name), kind)
        for name in ("max_seconds", "lr", "clip", "temperature", "head_lr"):
            self._require(name, lambda value: 0 < value < math.inf, "more than 0")
        for name in ("weight_decay", "mixup", "checkpoint_seconds"):
            self._require(name, lambda value: 0 <= value < math.inf, "0 or more")
        for name in ("warmup", "frozen", "label_smoothing", "vote_share", "ema_decay", "crop"):
            self._require(name, lambda value: 0 <= value < 1, "from 0 to below 1")
        self._require("augment", lambda value: 0 <= value <= 3, "from 0 (none) to 3")
        self._require("teacher_share", lambda value: 0 < value <= 1, "above 0, to 1")
        for name in ("erasing", "degrade"):
            self._require(name, lambda value: 0 <= value <= 1, "a probability from 0 to 1")
        self._require("noise", lambda value: 0 <= value <= 0.5, "a share from 0 to 0.5")

    def _require(self, name: str, holds: Callable[[float], bool], wanted: str) -> None:
        value = getattr(self, name)
        if value is not None and not holds(value):
            raise EdgeferError(f"{name} is {value}", hint=f"it must be {wanted}")

    def resolved(self, model: str, *, fine_tuned: bool = False) -> TrainConfig:
        """The same with the usual values of network ``model`` in place of a ``batch_size`` or ``lr`` of None.

        They are those of its recipe, unless that fine-tunes weights and this run starts from random ones.
        """
        recipe = load_recipe(model) if model in recipe_names() else None
        starts_alike = recipe is not None and (recipe.init is None or fine_tuned)
        given = recipe.settings if recipe is not None and starts_alike else FROM_RANDOM_WEIGHTS.get(model, {})
        return replace(
            self,
            batch_size=self.batch_size or given.get("batch_size", DEFAULT_BATCH_SIZE),
            lr=self.lr or given.get("lr", DEFAULT_LR),
        )


FOLDER = Path(__file__).parent / "recipes"
"""Those that come with edgefer: NAME.toml."""

_KINDS = {"int": ("a whole number", (int,)), "float": ("a number", (int, float)), "str": ("a text", (str,))}
"""Type of a setting → its name in messages, and what TOML may give."""

_KEYS = ("model", "note", "init", "teachers", "votes", "train")


@dataclass(frozen=True)
class Recipe:
    """One run of ``edgefer train``.

    Attributes:
        model: the network.
        note: on what the recipe was used, and what came out.
        settings: fields of :class:`TrainConfig`.
        init: the weights to begin with, or None: fresh ones.
        teachers: weights of the networks to learn from, or one file of a teacher's logits.
        votes: file of FER+'s votes, or None: FER2013's labels.
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

    Weights are files, seen from the folder that edgefer runs in, or names of weights that ship; a file that is absent
    there may lie beside the recipe.

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
    taught_by = tuple(_beside(path, teacher) for teacher in teachers)
    note = str(content.get("note", ""))
    return Recipe(content["model"], note, dict(settings), init, taught_by, content.get("votes"))


def _beside(recipe: Path, name: str) -> Path:
    """The file as it is named, or the one beside the recipe if only that is there."""
    own = recipe.parent / name
    return own if own.is_file() and not Path(name).is_file() else Path(name)
