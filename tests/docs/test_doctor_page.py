"""The page about doctor and inspect: the keys that it promises are those that come."""

import re
from pathlib import Path

from edgefer.deploy.inspect import KINDS, inspect_file, inspection_json
from edgefer.doctor.advice import EngineVerdict
from edgefer.doctor.text import diagnosis_json, verdict_json
from tests.doctor.machines import machine
from tests.optimize.conftest import contract, network, write_model

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")


def test_the_keys_of_the_machine():
    found = diagnosis_json(machine("jetpack6"))
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == list(found)
    for part in ("facts", "capabilities"):
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{part}`"))
        assert row.rsplit("`", 2)[1].split() == list(found[part])


def test_the_keys_of_a_verdict_and_of_a_file(tmp_path):
    verdict, file = re.findall(r"^`--json`: (.*?)\n(?:\n|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    outside = re.compile(r"\([^)]*\)")
    assert re.findall(r"`(\w+)`", outside.sub("", verdict)) == list(verdict_json(EngineVerdict(tmp_path, "", True)))
    write_model(tmp_path / "x.onnx", network(), contract())
    assert re.findall(r"`(\w+)`", outside.sub("", file)) == list(inspection_json(inspect_file(tmp_path / "x.onnx")))
    assert re.search(r"`kind` \(`(.*?)`\)", file)[1].split() == list(KINDS)
