"""The pages about TensorRT: what a host is told to type is typed, and every option they name exists."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgefer.cli import cli
from edgefer.data import save_npz, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.engines.tensorrt.compat import JETPACKS, target_of

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ("jetson.md", "int8-in-tensorrt.md")
COMMAND = re.compile(r"^    (edgefer .+)$", re.MULTILINE)


def commands(page):
    return COMMAND.findall((DOCS / page).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An empty folder with the network of the page and synthetic faces in the place of FER2013."""
    folder = tmp_path_factory.mktemp("pages")
    images, labels = synthetic_faces(420, seed=3)
    save_npz(folder / "fer2013.npz", images, labels, FER2013, ["train"] * 420)
    done = CliRunner().invoke(cli, [*shlex.split(commands("jetson.md")[0])[1:-1], str(folder / "model.onnx")])
    assert done.exit_code == 0, done.output
    return folder


@pytest.mark.parametrize("line", [line for page in PAGES for line in commands(page) if "--onnx-only" in line])
def test_what_a_host_types_works(folder, line, monkeypatch):
    monkeypatch.chdir(folder)
    words = shlex.split(line.replace("fer2013.csv", "fer2013.npz"))
    done = CliRunner().invoke(cli, [*words[1:], *(("--calib-faces", "21") if "--calib" in words else ())])
    assert done.exit_code == 0, done.output
    assert Path(words[-1]).is_file()
    assert "on the device, with TensorRT" in done.output


@pytest.mark.parametrize("page", PAGES)
def test_every_option_exists(page):
    for command in (("build-engine",), ("deploy", "bundle")):
        known = CliRunner().invoke(cli, [*command, "--help"]).output
        for line in commands(page):
            if line.startswith(f"edgefer {' '.join(command)} "):
                for option in re.findall(r"--[a-z0-9-]+", line):
                    assert option in known, option


def test_the_table_of_jetpacks_is_the_codes():
    text = (DOCS / "jetson.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [\d.]+.*?\| ([\d.]+).*\| (.+?) \|$", text, re.MULTILINE)
    named = {name: version for version, names in rows for name in re.findall(r"`(jetpack[\d.]+)`", names)}
    assert set(named) <= set(JETPACKS)
    assert len(named) == 5
    for name, version in named.items():
        assert ".".join(map(str, target_of(name).version)).startswith(version), name


def test_the_line_for_trtexec_is_what_is_printed(folder, monkeypatch):
    monkeypatch.chdir(folder)
    text = (DOCS / "jetson.md").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("/usr/src/tensorrt/bin/trtexec"))
    words = ("--int8", "--fp16", "--calib", "fer2013.npz", "--calib-faces", "21", "--target", "tensorrt")
    done = CliRunner().invoke(
        cli, ["build-engine", "model.onnx", *words, "--for", "jetpack5", "--onnx-only", "-o", "xavier.onnx"]
    )
    assert line.replace("face.engine", "xavier.engine") in done.output


def test_links_of_the_runtime_page_lead_to_files():
    text = (DOCS / "tensorrt-runtime.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (DOCS / target).is_file()
    make = (DOCS.parent / "Makefile").read_text(encoding="utf-8")
    assert "test-gpu:" in make
    assert all(f"$({name})" in make for name in re.findall(r"\b(PYTHON|MODELS|DATA)=", text))
