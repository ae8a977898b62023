import re
from pathlib import Path

import pytest

from edgefer.errors import EdgeferError
from edgefer.models.registry import names
from edgefer.models.weights import shipped
from edgefer.training import TrainConfig
from edgefer.training.config import load_recipe, recipe_names


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        ({"epochs": 0}, "epochs is 0, not a whole number from 1", "epochs 1"),
        ({"batch_size": 0}, "batch_size is 0, not a whole number from 1", "batch_size 1"),
        ({"max_seconds": 0.0}, "max_seconds is 0.0", "it must be more than 0"),
        ({"lr": -1.0}, "lr is -1.0", "it must be more than 0"),
        ({"lr": float("nan")}, "lr is nan", "it must be more than 0"),
        ({"clip": 0.0}, "clip is 0.0", "it must be more than 0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1", "it must be 0 or more"),
        ({"seed": -1}, "seed is -1, not a whole number from 0", "seed 0"),
        ({"seed": 2**63}, "a seed has 63 bits", "seed 9223372036854775807"),
        ({"warmup": 1.0}, "warmup is 1.0", "it must be from 0 to below 1"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0", "it must be from 0 to below 1"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1", "it must be from 0 to below 1"),
        ({"augment": 4.0}, "augment is 4.0", "it must be from 0 (none) to 3"),
        ({"erasing": 1.1}, "erasing is 1.1", "it must be a probability from 0 to 1"),
        ({"degrade": -0.1}, "degrade is -0.1", "it must be a probability from 0 to 1"),
        ({"noise": 0.6}, "noise is 0.6", "it must be a share from 0 to 0.5"),
        ({"head_lr": 0.0}, "head_lr is 0.0", "it must be more than 0"),
        ({"frozen": 1.0}, "frozen is 1.0", "it must be from 0 to below 1"),
        ({"teacher_share": 0.0}, "teacher_share is 0.0", "it must be above 0, to 1"),
        ({"schedule": "linear"}, "schedule is 'linear'", "choose one of cosine, step"),
        ({"sampling": "rare"}, "sampling is 'rare'", "choose one of shuffled, balanced"),
        ({"keep": "last"}, "keep is 'last'", "choose one of top1, loss"),
        ({"threads": 0}, "threads is 0, not a whole number from 1", "threads 1"),
        ({"patience": 0}, "patience is 0, not a whole number from 1", "patience 1"),
        ({"optimiser": "lion"}, "optimiser is 'lion'", "choose one of adamw, adam, sgd"),
        ({"class_weights": "yes"}, "class_weights is 'yes'", "choose one of none, sqrt, balanced"),
        ({"precision": "int8"}, "precision is 'int8'", "choose one of fp32, bf16"),
    ],
)
def test_bad_settings(settings, message, hint):
    with pytest.raises(EdgeferError) as caught:
        TrainConfig(**settings)
    assert message in caught.value.message
    assert caught.value.hint == hint


@pytest.mark.parametrize("name", names())
def test_a_networks_recipe_is_where_its_batch_size_and_learning_rate_come_from(name):
    recipe = load_recipe(name)
    assert recipe.model == name
    resolved = TrainConfig().resolved(name, fine_tuned=recipe.init is not None)
    assert (resolved.batch_size, resolved.lr) == (recipe.settings.get("batch_size", 64), recipe.settings["lr"])
    given = TrainConfig(batch_size=5, lr=0.5).resolved(name)
    assert (given.batch_size, given.lr) == (5, 0.5)


@pytest.mark.parametrize(
    ("name", "batch_size", "lr"),
    [("lenet", 64, 2e-3), ("mini_xception", 64, 3e-3), ("vgg9", 64, 3e-4), ("resnet18", 64, 1e-3), ("vgg11", 64, 1e-3)],
)
def test_batch_size_and_learning_rate_of_networks_that_start_from_random_weights(name, batch_size, lr):
    resolved = TrainConfig().resolved(name)
    assert (resolved.batch_size, resolved.lr) == (batch_size, lr)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_ships_can_be_read_and_says_what_came_out(name):
    recipe = load_recipe(name)
    assert recipe.model == name.removesuffix("_ferplus").removesuffix("_64")
    assert ("size" in recipe.settings) == name.endswith("_64")
    came_out = re.search(r"\d\d\.\d % (on FER(2013|\+)'s public test|of val after)", recipe.note)
    assert came_out or recipe.note.startswith("Not run to its end")
    assert came_out or shipped(name) is None
    assert recipe.settings["epochs"] >= 1


def test_every_network_has_a_recipe():
    assert set(names()) <= set(recipe_names())


def test_a_recipe_from_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('model = "lenet"\nnote = "none"\n[train]\nepochs = 4\nlr = 0.1\n')
    recipe = load_recipe(str(path))
    assert recipe.settings == {"epochs": 4, "lr": 0.1}
    assert (recipe.init, recipe.teachers, recipe.votes) == (None, (), None)


def test_a_recipe_names_what_it_begins_with_and_who_teaches(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('model = "lenet"\ninit = "lenet"\nteachers = ["a.safetensors", "lenet7"]\nvotes = "npz"\n')
    recipe = load_recipe(str(path))
    assert (recipe.init, recipe.votes) == (Path("lenet"), "npz")
    assert recipe.teachers == (Path("a.safetensors"), Path("lenet7"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = [", "is not TOML: "),
        ("note = 'x'", "names no model"),
        ("model = 'lenet'\n[train]\nepoch = 3", "has the unknown key 'train.epoch'"),
        ("model = 'lenet'\ntrain = 3", "has the unknown key 'train'"),
        ("model = 'lenet'\nlr = 3", "has the unknown key 'lr'"),
        ("model = 'lenet'\nteachers = 'a.safetensors'", "teachers is 'a.safetensors'"),
        ("model = 'lenet'\nteachers = [3]", "teachers is [3]"),
        ("model = 'lenet'\ninit = 3", "init is 3"),
        ("model = 'lenet9'", "no network is called 'lenet9'"),
        ("model = 'lenet'\n[train]\nepochs = 0", "epochs is 0"),
        ("model = 'lenet'\n[train]\nepochs = 'many'", "train.epochs is 'many'"),
        ("model = 'lenet'\n[train]\nbatch_size = 32.5", "train.batch_size is 32.5"),
        ("model = 'lenet'\n[train]\naugment = true", "train.augment is True"),
        ("model = 'lenet'\n[train]\nprecision = 16", "train.precision is 16"),
    ],
)
def test_bad_recipes(tmp_path, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(EdgeferError) as caught:
        load_recipe(str(path))
    assert message in caught.value.message


def test_an_unknown_recipe():
    with pytest.raises(EdgeferError) as caught:
        load_recipe("mini_exception")
    assert caught.value.message.startswith("there is no recipe ")
    assert "mini_xception" in caught.value.hint
