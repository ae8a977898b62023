"""The wheel that a bundle carries is one that pip installs, with all that edgefer reads."""

import json
import subprocess
import sys

from edgefer.deploy.wheel import write_wheel
from tests.deploy.test_script import HOME


def test_pip_installs_it(tmp_path):
    wheel = write_wheel(tmp_path)
    assert wheel.name == "edgefer-0.1.0-py3-none-any.whl"
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True)
    program = (
        "import json, edgefer, importlib.metadata as m\n"
        "from edgefer.optimize.calibration_table import shipped_table\n"
        "from edgefer.models.weights import shipped\n"
        "print(json.dumps([edgefer.__file__, m.version('edgefer'), shipped('mini_xception') is not None]))"
    )
    environment = {"PYTHONPATH": str(target), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, env=environment, check=True, cwd=tmp_path
    )
    file, version, ships = json.loads(done.stdout)
    assert (file, version, ships) == (str(target / "edgefer" / "__init__.py"), "0.1.0", True)
    tables = sorted(path.name for path in (target / "edgefer" / "calibration").glob("*.jsonl"))
    assert tables == sorted(path.name for path in (HOME / "calibration").glob("*.jsonl"))
    assert (target / "bin" / "edgefer").is_file()


def test_the_same_files_give_the_same_wheel(tmp_path):
    (tmp_path / "again").mkdir()
    assert write_wheel(tmp_path).read_bytes() == write_wheel(tmp_path / "again").read_bytes()
