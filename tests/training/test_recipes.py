import re
from pathlib import Path

import pytest

from edgefer.errors import EdgeferError
from edgefer.models.registry import names
from edgefer.models.weights import shipped
from edgefer.training.recipes import load_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_ships_can_be_read_and_says_what_came_out(name):
    recipe = load_recipe(name)
    assert recipe.model == name.removesuffix("_ferplus").removesuffix("_64")
    assert ("size" in recipe.settings) == name.endswith("_64")
    came_out = re.search(r"\d\d\.\d % on FER(2013|\+)'s public test", recipe.note)
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
