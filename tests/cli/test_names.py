"""Names that no file can have are refused, and neither a closed pipe nor a plain terminal changes an exit code."""

import contextlib
import dataclasses
import os
import pty
import subprocess
import sys

import pytest
from click.testing import CliRunner

from edgefer.atomic import check_vacant, check_writable, write_text
from edgefer.camera.page import sample_picture
from edgefer.cli import cli
from edgefer.data import open_dataset
from edgefer.errors import EdgeferError
from edgefer.progress import announce, progress

WRONG = {"": "is empty", "x" * 300: "is too long", "a\udcff": "is not UTF-8", "a\0": "has a zero byte"}
COMMANDS = [
    "export --model lenet -o",
    "build-engine m.onnx --fp32 -o",
    "bench e.onnx --data d --baseline lenet --html",
    "data inspect d.npz --sheet",
    "predict p.png -o",
    "inspect",
]


@pytest.mark.parametrize(("name", "fault"), WRONG.items(), ids=list(WRONG.values()))
@pytest.mark.parametrize("line", COMMANDS)
def test_a_path_that_no_file_can_have_is_refused(line, name, fault, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, [*line.split(), name])
    assert done.exit_code == 2
    assert fault in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "fault"), WRONG.items(), ids=list(WRONG.values()))
def test_python_refuses_it_too(name, fault, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (check_writable, check_vacant, open_dataset, lambda path: write_text(path, "x")):
        with pytest.raises(EdgeferError, match=fault):
            call(name)
    assert not list(tmp_path.iterdir())


def test_the_longest_name_that_is_taken_can_be_written(tmp_path):
    name = "y" * 218 + ".json"
    write_text(tmp_path / name, "x")
    with pytest.raises(EdgeferError, match="is too long"):
        write_text(tmp_path / f"y{name}", "x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_data_that_are_named_by_nothing_are_not_the_folder():
    assert "--data is empty" in CliRunner().invoke(cli, ["bench", "e.onnx", "--data", "", "--baseline", "b"]).output


def run(*arguments, **settings):
    return subprocess.run([sys.executable, "-m", "edgefer", *arguments], check=False, timeout=60, **settings)


@pytest.mark.parametrize(("command", "code"), [(("models",), 0), (("inspect", "{text}"), 2)])
def test_a_reader_that_goes_away_changes_no_exit_code(command, code, tmp_path):
    (tmp_path / "x.onnx").write_text("no model")
    reader, writer = os.pipe()
    os.close(reader)
    done = run(*(word.format(text=tmp_path / "x.onnx") for word in command), stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == code, done.stderr
    assert b"Broken pipe" not in done.stderr


def test_what_writes_line_after_line_ends_with_its_reader(tmp_path):
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(tmp_path / "a.png"), sample_picture())
    reader, writer = os.pipe()
    os.close(reader)
    line = ["camera", "--source", str(tmp_path), "--no-window", "--events", "-", "--detector", "haar"]
    done = run(*line, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 0, done.stderr
    assert b"1 frames" not in done.stderr  # no summary: it did not go on to the end


def test_a_terminal_obeys_nothing_that_a_file_says(tmp_path):
    from edgefer.models.weights import load_weights, save_weights, shipped

    known = load_weights(shipped("lenet"))
    odd = dataclasses.replace(known.contract, lineage={"note": "\x1b]0;title\x07\x1b[2J\x9b31m \x1b[31mred\x1b[0m"})
    save_weights(tmp_path / "w.safetensors", known.state, odd)
    leader, follower = pty.openpty()
    done = run("inspect", str(tmp_path / "w.safetensors"), stdout=follower, stderr=subprocess.PIPE)
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # the end, of which Linux makes an error
        while part := os.read(leader, 65536):
            shown += part
    os.close(leader)
    assert done.returncode == 0, done.stderr
    assert b"note" in shown
    assert b"?]0;title??[2J?31m \x1b[31mred\x1b[0m" in shown  # a colour may stay


def test_notices_and_bars_are_printable(capfd):
    announce("a\x1b[2J\x07b\nc")
    with progress("\x1b[2J", 1) as advance:
        advance(1, "\x1b[2J")
    assert capfd.readouterr().err.splitlines() == ["a?[2J?b", "c"]


def test_letters_that_a_terminal_lacks_stop_nothing():
    done = run("models", capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii:strict"})
    assert done.returncode == 0, done.stderr
    assert b"48?48?1" in done.stdout
