"""Packages that die, hang, print or fail when they are imported, and what a healthy machine costs."""

import json
import resource
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from edgefer.cli import cli
from edgefer.doctor import software
from edgefer.doctor.probe import diagnose
from edgefer.doctor.software import probe_software
from edgefer.doctor.text import diagnosis_json, lines
from edgefer.runtimes import RUNTIMES, Runtime

BROKEN = {
    "tensorrt": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n",
    "cv2": "raise ImportError('numpy.core.multiarray failed to import\\nsecond line')\n",
    "openvino": "print('a banner'); __version__ = '2026.4.1-21345-abc'\n",
    "onnxruntime": "import sys; sys.exit(3)\n",
}


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder of packages that come before the real ones."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    facts = software._packages()

    def write(**sources):
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.setattr(software, "_packages", lambda: {name: facts[name] for name in sources})

    return write


def test_what_a_package_does_to_its_process_is_told(packages):
    packages(**BROKEN)
    driver, modules = probe_software()
    assert modules["tensorrt"].problem == "ended its process by SIGSEGV"
    assert modules["cv2"].problem == "ImportError: numpy.core.multiarray failed to import"
    assert (modules["openvino"].version, modules["openvino"].works) == ("2026.4.1", True)
    assert modules["onnxruntime"].problem == "ended its process with status 3"
    assert driver.problem is not None or driver.devices


def test_what_a_package_prints_when_its_process_ends_is_not_the_answer(packages):
    packages(openvino="import atexit; __version__ = '1'; atexit.register(print, 'bye'); atexit.register(print, 0)\n")
    assert probe_software()[1]["openvino"].version == "1"


def test_packages_are_not_taken_from_the_folder_that_one_is_in(packages, tmp_path, monkeypatch):
    (tmp_path / "clone" / "openvino").mkdir(parents=True)
    (tmp_path / "clone" / "openvino" / "__init__.py").write_text("raise ImportError('this is the source')\n")
    monkeypatch.chdir(tmp_path / "clone")
    packages(openvino="__version__ = '1'\n")
    assert probe_software()[1]["openvino"].version == "1"


def test_a_tensorrt_of_pip_tells_its_cuda(packages, tmp_path):
    packages(tensorrt="__version__ = '11.4.0.106'\n")
    assert probe_software()[1]["tensorrt"].details == {}
    (tmp_path / "tensorrt_cu12_libs-11.4.0.106.dist-info").mkdir()
    (tmp_path / "tensorrt_cu12_libs-11.4.0.106.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: tensorrt-cu12-libs\nVersion: 11.4.0.106\n"
    )
    assert probe_software()[1]["tensorrt"].details == {"for_cuda": 12}


def test_a_package_that_hangs_is_given_up(packages, monkeypatch):
    packages(pycuda="import time; time.sleep(60)\n")
    monkeypatch.setattr(software, "_ask", lambda names, _ask=software._ask: _ask(names, timeout=1.0))
    monkeypatch.setattr(software, "_read_driver", lambda answer: None)
    before = time.monotonic()
    _, modules = probe_software()
    assert modules["pycuda"].problem == "it did not answer within 1 s"
    assert time.monotonic() - before < 5


def test_a_driver_that_kills_is_survived(monkeypatch):
    monkeypatch.setattr(software, "_packages", dict)
    monkeypatch.setattr(software, "_ask", lambda names: {"driver": {"error": "ended its process by SIGSEGV"}})
    driver, _ = probe_software()
    assert "ended its process by SIGSEGV" in driver.problem.message
    assert driver.devices == ()


def test_a_further_runtime_shows_up_by_its_row_in_the_table(tmp_path, monkeypatch):
    (tmp_path / "toy_package.py").write_text("def facts():\n    return {'version': '1.2', 'providers': ['Abacus']}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    row = Runtime("toy", "Toy Runtime", "toy_package", ("toy-package",), "toy", {"fp32": ()}, facts="toy_package:facts")
    monkeypatch.setitem(RUNTIMES, "toy", row)
    found = diagnose()
    assert diagnosis_json(found)["facts"]["toy_package"]["text"] == "1.2; Abacus"
    assert "  yes  build, run and bench engines for this CPU with Toy Runtime" in list(lines(found))
    gone = diagnose(software=(found.driver, {}))
    assert diagnosis_json(gone)["capabilities"]["toy_package"]["commands"] == ["pip install 'edgefer[toy]'"]


PROBE = """
import sys
from edgefer.cli import cli
cli.main(["doctor", "--json"], standalone_mode=False)
print("LOADED", sorted({"torch", "onnxruntime", "cv2", "onnx", "openvino", "tensorrt"} & set(sys.modules)))
"""


def test_the_command_is_quick_and_imports_nothing_heavy():
    before = processor_seconds()
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    printed, _, loaded = done.stdout.rpartition("LOADED ")
    assert loaded.strip() == "[]"
    assert json.loads(printed)["facts"]["onnxruntime"]["found"]
    assert processor_seconds() - before < 3, "wall time is others' business on a machine that is shared"


def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_in_words(monkeypatch):
    monkeypatch.setattr(software, "_packages", dict)
    done = CliRunner().invoke(cli, ["doctor"], standalone_mode=False)
    for heading in ("machine ", "What edgefer can do here", "To get the rest", "pip install 'edgefer[cpu]'"):
        assert heading in done.output


def test_an_extra_lists_what_it_lacks(monkeypatch):
    lines = ["numpy>=1.24", 'onnxruntime>=1.18; extra == "cpu"', "opencv-python>=4; extra == 'camera'"]
    lines += ['no-such-thing>=1; (sys_platform == "linux") and extra == "plots"', 'edgefer[cpu]; extra == "all"']
    monkeypatch.setattr(software, "requires", lambda name: lines)
    assert software.missing_of_extras() == {"cpu": (), "camera": (), "plots": ("no-such-thing",)}
