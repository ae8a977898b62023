"""What the page on benchmarking and the workflow write as commands is what the commands take."""

import re
from pathlib import Path

import pytest

from edgefer.cli import cli

DOCS = Path(__file__).resolve().parents[2] / "docs"
FILES = ("benchmarking.md", "ci/edgefer-gate.yml")


def commands(text):
    """``(command, options)`` of every line that calls edgefer; lines that end in a backslash go on."""
    for line in text.replace("\\\n", " ").splitlines():
        found = re.search(r"(?:^|\s|/)edgefer ([a-z-]+) (.+)", line)
        if found and found.group(1) in cli.commands:
            yield found.group(1), re.findall(r"(?<![\w-])--[a-z0-9-]+", found.group(2))


@pytest.mark.parametrize("name", FILES)
def test_every_option_exists(name):
    found = list(commands((DOCS / name).read_text(encoding="utf-8")))
    assert {command for command, _ in found} >= {"bench", "gate"}
    for command, options in found:
        known = {option for parameter in cli.commands[command].params for option in parameter.opts}
        known |= {option for parameter in cli.commands[command].params for option in parameter.secondary_opts}
        assert set(options) <= known, command


def test_options_in_the_pages_text_exist_somewhere():
    text = (DOCS / "benchmarking.md").read_text(encoding="utf-8")
    known = {option for command in cli.commands.values() for p in command.params for option in p.opts}
    assert set(re.findall(r"`(--[a-z0-9-]+)", text)) <= known


def test_links_of_the_page_lead_to_files():
    for target in re.findall(r"\]\(([^)#]+)\)", (DOCS / "benchmarking.md").read_text(encoding="utf-8")):
        assert (DOCS / target).is_file()
