"""CONTRIBUTING.md names files, functions, options and layers that exist."""

import ast
import re

import pytest

from edgefer.cli import cli
from tests.test_layers import LAYERS, PACKAGE

ROOT = PACKAGE.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"(?<!`)`([^`]+)`(?!`)", PAGE)
FILES = sorted(
    {text for text in QUOTED if re.fullmatch(r"[\w./-]+(/|\.(py|toml|md|txt))", text) and "NAME" not in text}
)
OF_A_FILE = re.compile(r"((?:`\w+`(?:,| and| or)? ?)+)\s*(?:of|in|\()\s*`([\w/]+\.py)`")
DEFINED = (ast.FunctionDef, ast.ClassDef)


def defined(path):
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from [node.name] if isinstance(node, DEFINED) else [t.id for t in targets if isinstance(t, ast.Name)]


@pytest.mark.parametrize("name", [name for name in FILES if "X.Y" not in name and not name.startswith("shared/")])
def test_files_exist(name):
    assert (ROOT / name).exists() or (PACKAGE / name).exists()


def test_a_file_has_what_it_is_said_to_have():
    said = OF_A_FILE.findall(" ".join(PAGE.split()))
    found = {(name, file) for names, file in said for name in re.findall(r"`(\w+)`", names)}
    assert {("kaiming", "edgefer/models/layers.py"), ("FORMATS", "edgefer/data/opening.py")} <= found
    assert [(name, file) for name, file in found if name not in defined(ROOT / file)] == []


def test_classes_functions_and_tests_exist():
    every = {name for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("test_*.py")] for name in defined(path)}
    named = {name for text in QUOTED for name in re.findall(r"^(?:test_\w+|[A-Z][a-z]\w+|\w+(?=\())", text)}
    named |= {name for text in QUOTED for name in re.findall(r'^"edgefer[\w.]*:(\w+)"$', text)} - {"function"}
    assert {"test_counts", "Loaded", "open_model", "check_cpu_engine"} <= named
    assert {name for name in named - every if "NAME" not in name} == set()


def test_the_layers_are_those_that_are_held():
    block = re.search(r"^    cli .*?\n\n", PAGE, re.MULTILINE | re.DOTALL)[0]
    lines = [re.split(r"\s{2,}", line.strip())[0].split() for line in block.strip().splitlines()]
    assert [set(line) for line in lines] == [set(layer) for layer in reversed(LAYERS)]


def test_commands_and_make_targets_exist():
    make = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make (test[\w-]*)", PAGE):
        assert re.search(rf"^{target}:", make, re.MULTILINE), target
    commands = re.findall(r"^ +edgefer ([\w-]+)(.*)$", PAGE, re.MULTILINE)
    assert len(commands) >= 9
    for name, rest in commands:
        command, words = cli.commands[name], rest.split()
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known, name
    for path in re.findall(r"^ +pytest (.*)$", PAGE, re.MULTILINE):
        assert all((ROOT / word).exists() for word in path.split() if word.startswith("tests/"))


def test_the_limit_of_parameters_is_ruffs():
    assert re.search(r"at most (\d+) parameters", PAGE)[1] == "8"
    assert "max-args = 8" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
