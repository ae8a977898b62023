"""What a user gets from the wheel, in an environment that has nothing else of ours."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)], check=True, capture_output=True
    )
    return next(folder.glob("edgefer-*.whl"))


@pytest.fixture(scope="module")
def empty_environment(wheel, tmp_path_factory):
    """An environment with the wheel and its core dependencies only."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    constraints = ROOT / "constraints" / f"python{sys.version_info.major}.{sys.version_info.minor}.txt"
    subprocess.run([python, "-m", "pip", "install", "-q", "-c", constraints, wheel], check=True, capture_output=True)
    return python


def run(python, *arguments, cwd):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run([python, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_runs_with_its_core_dependencies_alone(empty_environment, tmp_path):
    done = run(empty_environment, "-m", "edgefer", "models", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mini_xception" in done.stdout
    doctor = run(empty_environment, "-m", "edgefer", "doctor", cwd=tmp_path)
    assert doctor.returncode == 0, doctor.stderr
    assert "pip install 'edgefer[cpu]'" in doctor.stdout
    console_script = Path(empty_environment).parent / "edgefer"
    assert run(console_script, "--version", cwd=tmp_path).stdout.startswith("edgefer")


def test_recipes_and_weights_are_inside_the_wheel(empty_environment, tmp_path):
    program = (
        "from edgefer.optimize.settings import recipe_for, recipes_folder\n"
        "from edgefer.models.weights import shipped\n"
        "print(recipes_folder()); print(recipe_for('lenet').faces)\n"
        "import importlib.resources\n"
        "for name in ('run.sh', 'bundle_readme.md'):\n"
        "    assert importlib.resources.files('edgefer.deploy').joinpath(name).is_file(), name\n"
        "import edgefer.models, pathlib\n"
        "print(sorted(p.name for p in pathlib.Path(edgefer.models.__file__).parent.glob('weights/*.safetensors')))\n"
    )
    done = run(empty_environment, "-c", program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder, faces, weights = done.stdout.splitlines()
    assert "site-packages" in folder
    assert int(faces) == 500
    assert weights == str(sorted(p.name for p in (ROOT / "edgefer" / "models").glob("weights/*.safetensors")))


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("train", "--model", "lenet", "--data", "x.npz", "-o", "w.safetensors"), "export"),
        (("export", "--model", "lenet", "--random-weights", "-o", "x.onnx"), "export"),
        (("predict", "x.jpg"), "camera"),
        (("camera", "x.onnx"), "camera"),
        (("web", "x.onnx"), "camera"),
    ],
)
def test_a_command_whose_extra_is_missing_names_it(empty_environment, tmp_path, command, extra):
    done = run(empty_environment, "-m", "edgefer", *command, cwd=tmp_path)
    assert done.returncode == 2
    assert f"pip install 'edgefer[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
