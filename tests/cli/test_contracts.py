"""``edgefer contract`` and the options of ``export --module`` and ``adopt``, as a user types them."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from edgefer.cli import cli
from edgefer.errors import EdgeferError


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli, [str(a) for a in arguments])


def test_a_new_contract_is_written_once(run, tmp_path):
    assert run("contract", "new").exit_code == 0
    text = (tmp_path / "contract.toml").read_text(encoding="utf-8")
    assert "labels = []" in text
    assert text.count("#") > 8
    fault = run("contract", "new").exception
    assert isinstance(fault, EdgeferError)
    assert fault.message == "contract.toml exists already"
    assert run("contract", "new", "-o", "b.toml").exit_code == 0


def test_a_contract_of_a_missing_file(run):
    assert "there is no file none.onnx" in run("contract", "guess", "none.onnx").exception.message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say which network"),
        (("--model", "lenet", "--module", "a:b"), "say which network"),
        (("--module", "a", "--contract", "c.toml"), "names no factory"),
        (("--module", "a:b"), "--module goes with --contract FILE"),
        (("--module", "a:b", "--contract", "c.toml", "--random-weights"), "not with --random-weights"),
        (("--model", "lenet", "--contract", "c.toml"), "--contract goes with --module"),
    ],
)
def test_options_that_do_not_go_together(run, arguments, message):
    done = run("export", *arguments, "-o", "m.onnx")
    assert done.exit_code == 2
    assert message in done.output


def test_reading_options_without_data_to_read(run):
    fault = run("build-engine", "m.onnx", "--fp32", "--map", "a=b", "-o", "x.onnx").exception
    assert isinstance(fault, EdgeferError)
    assert fault.message == "--map has no effect without --calib"


def test_a_bad_map_is_named(run):
    fault = run("bench", "e.onnx", "--data", "d.npz", "--baseline", "lenet", "--map", "happy").exception
    assert isinstance(fault, EdgeferError)
    assert "'happy' is no pair of classes" in fault.message


def test_a_factory_that_raises_is_two_lines(tmp_path):
    (tmp_path / "nets.py").write_text("def build():\n    raise RuntimeError('no GPU here')\n", encoding="utf-8")
    (tmp_path / "c.toml").write_text(
        'architecture = "x"\nlabels = ["a", "b"]\n[input]\nheight = 8\nwidth = 8\nchannels = 1\n'
        "[normalisation]\nscale = 1.0\nmean = [0.0]\nstd = [1.0]\n",
        encoding="utf-8",
    )
    arguments = ["export", "--module", "nets:build", "--contract", "c.toml", "-o", "m.onnx"]
    done = subprocess.run(
        [sys.executable, "-m", "edgefer", *arguments], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert lines[0].startswith("error: nets:build() raised RuntimeError: no GPU here at ")
    assert lines[0].endswith("nets.py:2")
    assert lines[1].startswith("hint: ")
    assert not (tmp_path / "m.onnx").exists()
