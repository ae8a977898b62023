"""The help that users read: whole lines, plain sentences, examples that can be typed."""

import shlex

import click
import pytest
from click.testing import CliRunner

from edgefer.cli import cli
from edgefer.cli.help import summary

WIDTH = 80


def commands(group=cli, path=("edgefer",)):
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands())
GROUPS = {("edgefer",): cli, **{("edgefer", name): c for name, c in cli.commands.items() if isinstance(c, click.Group)}}
EXAMPLES = [(path, example) for path, command in COMMANDS.items() for example in command.examples]
called = " ".join


def help_of(path):
    done = CliRunner().invoke(cli, [*path[1:], "--help"], terminal_width=WIDTH, prog_name="edgefer")
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("path", [*COMMANDS, *GROUPS], ids=called)
def test_no_line_is_cut_or_too_long(path):
    for line in help_of(path).splitlines():
        assert not line.rstrip().endswith(("…", "...")) or line.startswith("Usage:"), line
        assert len(line) <= WIDTH, line


@pytest.mark.parametrize("path", GROUPS, ids=called)
def test_every_command_has_one_whole_line(path):
    group, lines = GROUPS[path], help_of(path).splitlines()
    for name, command in group.commands.items():
        line = next(line for line in lines if line.startswith(f"  {name} "))
        assert line.endswith(summary(command))


def test_commands_stand_in_sections():
    headings = [line for line in help_of(("edgefer",)).splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Options:", "Make:", "Measure:", "Try:", "Ship:", "Data:"]
    assert sorted(name for names in cli.sections.values() for name in names) == sorted(cli.commands)


@pytest.mark.parametrize("path", COMMANDS, ids=called)
def test_options_are_explained_in_sentences(path):
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Option):
            text = parameter.help or ""
            assert text, f"{parameter.name} has no help"
            assert not text.startswith(("Of ", "That ")), f"{parameter.name}: {text}"
            assert text[0].isupper() or text.split()[0] in {"haar", "fp32,", "compute:", "minmax,"}, text
            assert "judge" not in text.lower()


@pytest.mark.parametrize("path", COMMANDS, ids=called)
def test_every_command_has_two_examples(path):
    assert len(COMMANDS[path].examples) >= 2
    assert all(example in help_of(path) for example in COMMANDS[path].examples)


@pytest.mark.parametrize(("path", "example"), EXAMPLES)
def test_examples_parse(path, example):
    words = shlex.split(example.replace("\\\n", " "), comments=False)
    words = words[: words.index("|")] if "|" in words else words
    words = words[: words.index(">")] if ">" in words else words
    assert tuple(words[: len(path)]) == path
    COMMANDS[path].make_context(path[-1], words[len(path) :])  # a UsageError where it cannot be typed


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["bnch"], "there is no command 'edgefer bnch'", "did you mean `edgefer bench`?"),
        (["deploy", "bundel"], "there is no command 'edgefer deploy bundel'", "did you mean `edgefer deploy bundle`?"),
        (["xyzzy"], "there is no command 'edgefer xyzzy'", "`edgefer --help` lists what can be typed"),
        (["bench", "--dataa", "x"], "there is no option '--dataa'", "did you mean --data?"),
        (["bench", "x.onnx", "--data", "d"], "missing option '--baseline'", "`edgefer bench --help` lists"),
        (["bench", "x.onnx", "--batch", "0", "--data", "d", "--baseline", "b"], "--batch is 0", "--batch 1"),
        (["build-engine", "x.onnx", "-o", "y.onnx"], "say which precision: --fp32", "`edgefer build-engine --help`"),
    ],
)
def test_wrong_command_lines_have_an_error_and_a_hint(arguments, error, hint, monkeypatch, capsys):
    from edgefer.cli import main

    monkeypatch.setattr("sys.argv", ["edgefer", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    first, second = capsys.readouterr().err.strip().splitlines()
    assert first.startswith("error: ")
    assert error in first
    assert second.startswith("hint: ")
    assert hint in second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gate", "r.json", "--max-slowdown", "0.1"], "--max-slowdown has no effect without --against"),
        (["data", "inspect", "x.npz", "--per-class", "3"], "--per-class has no effect without --sheet"),
        (
            ["bench", "x.onnx", "--data", "d", "--baseline", "b", "--fps", "9"],
            "--fps has no effect without --scope paced",
        ),
        (["predict", "a.png", "--whole", "--smallest-face", "9"], "--smallest-face has no effect with --whole"),
        (
            ["camera", "--smooth", "none", "--smooth-seconds", "3"],
            "--smooth-seconds has no effect without --smooth ema",
        ),
    ],
)
def test_an_option_without_effect_is_an_error(arguments, message):
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_a_command_announces_a_thing_once(capfd):
    from edgefer.cli.help import Command
    from edgefer.progress import announce

    def combinations():
        for _ in range(3):
            announce("note: the same")
        announce("note: another")

    for _ in range(2):  # each command for itself
        done = CliRunner().invoke(Command("x", callback=combinations), [], catch_exceptions=False)
        assert done.stderr.splitlines() == ["note: the same", "note: another"]
    announce("note: the same")
    announce("note: the same")
    assert capfd.readouterr().err.count("note: the same") == 2, "in Python each time"
