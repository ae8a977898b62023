"""The table of runtimes: what it names exists, one more row is one more runtime, and nothing else names runtimes."""

import ast
import re
from dataclasses import fields

import numpy as np
import onnx
import pytest

import edgefer
from edgefer.data import save_npz
from edgefer.deploy.inspect import inspect_file, rows
from edgefer.doctor.advice import capabilities_of
from edgefer.errors import EdgeferError
from edgefer.runtimes import (
    CPU,
    ONNXRUNTIME,
    OPENVINO,
    RUNTIMES,
    TENSORRT,
    TOLERANCE,
    for_target,
    label_of,
    resolve,
    targets,
    title_of,
)
from tests import toy_runtime
from tests.doctor.machines import NO_DRIVER, machine
from tests.engines.conftest import CONTRACT, tiny
from tests.test_layers import FILES, PACKAGE

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib


def test_every_function_that_a_row_names_exists():
    for row in RUNTIMES.values():
        named = [getattr(row, f.name) for f in fields(row)]
        for text in [one for one in named if isinstance(one, str) and one.startswith("edgefer.")]:
            if text.startswith("edgefer.camera"):
                pytest.importorskip("cv2")
            assert callable(resolve(text)), text


def test_every_extra_brings_a_distribution_of_its_row():
    extras = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for row in RUNTIMES.values():
        assert any(need.startswith(name) for need in extras[row.extra] for name in row.distributions), row.name


def test_targets():
    assert targets() == (CPU, "tensorrt", "tensorrt-rtx")
    assert [*for_target(CPU)][:2] == ["onnxruntime", "openvino"]  # the first is the default
    assert (OPENVINO.option, TENSORRT.option) == ("--runtime openvino", "--target tensorrt")
    assert (label_of("tensorrt-rtx"), label_of("onnxruntime"), title_of("abacus")) == (
        "TensorRT-RTX",
        "onnxruntime",
        "abacus",
    )


def test_precisions_are_refused_with_what_has_them():
    ONNXRUNTIME.check_precision("int8", ())
    OPENVINO.check_precision("int8+bf16", ("amx_bf16",))
    for row, precision, said, hint in (
        (
            ONNXRUNTIME,
            "bf16",
            "ONNX Runtime does not compute in BF16 on a CPU",
            "--runtime openvino or --fp32",
        ),
        (OPENVINO, "fp16", "OpenVINO does not compute in FP16 on a CPU", "--target tensorrt or --target tensorrt-rtx"),
        (OPENVINO, "bf16", "this CPU has no bfloat16 arithmetic", "build with --fp32 or --int8"),
        (TENSORRT, "int3", "there is no precision 'int3'", "one of: bf16, fp16, fp32, int8"),
    ):
        with pytest.raises(EdgeferError) as error:
            row.check_precision(precision, ("avx2",))
        assert said == error.value.message
        assert error.value.hint.startswith(hint)


def test_the_table_imports_no_runtime():
    tree = ast.parse((PACKAGE / "runtimes.py").read_text("utf-8"))
    found = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module.startswith("edgefer")}
    assert found == {"edgefer.errors"}


@pytest.fixture
def toy(monkeypatch):
    """The toy runtime, added by its row alone."""
    monkeypatch.setitem(RUNTIMES, toy_runtime.ROW.name, toy_runtime.ROW)
    toy_runtime.OPENED.clear()


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny())
    return path


@pytest.fixture
def faces(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (600, 4, 4, 1), dtype=np.uint8)
    splits = ["train"] * 500 + ["test"] * 100
    save_npz(tmp_path / "faces.npz", images, np.arange(600) % 3, CONTRACT.labels, splits)
    return str(tmp_path / "faces.npz")


def test_a_row_is_all_that_a_runtime_needs(toy, model, faces):
    path = model.with_name("toy.onnx")
    target = edgefer.BuildTarget(runtime="toy")
    result = edgefer.build_engine(
        model, path, precision="int8", quantisation=edgefer.Quantisation(data=faces), target=target
    )
    assert (result.manifest.runtime, result.manifest.precision.got) == ("toy", "int8")
    assert result.manifest.golden.tolerance == {"toy": TOLERANCE["int8"]}
    assert {row.scheme for row in result.candidates} == {"x86-vnni", "arm-signed"}  # timed one against the other
    with edgefer.load_engine(path) as engine:
        assert (engine.runtime, engine.runtime_version) == ("toy", onnx.__version__)
        assert engine.logits(np.zeros((2, 4, 4, 1), np.uint8)).shape == (2, 3)
    assert toy_runtime.OPENED["int8"] >= 4
    report = edgefer.benchmark(path, faces, model, edgefer.BenchSettings(seconds=0.2), telemetry=False)
    assert (report.engines[0].runtime, report.engines[0].precision) == ("toy", "int8")
    assert (report.engines[0].name, report.engines[0].runtime) == ("toy.onnx", "toy")
    assert ("runtime", f"toy {onnx.__version__}") in rows(inspect_file(path))
    found = {one.key: one for one in capabilities_of(machine("desktop", {}, NO_DRIVER))}["onnx.reference"]
    assert found.what == "build, run and bench engines for this CPU with Toy Runtime"
    assert found.commands == ("pip install 'edgefer[cpu]'",)


def test_a_row_joins_auto(toy, model, faces):
    result = edgefer.build_engine(
        model, model.with_name("auto.onnx"), precision="auto", quantisation=edgefer.Quantisation(data=faces)
    )
    assert {"fp32", "int8"} == {row.precision for row in result.candidates if row.runtime == "toy"}


def test_a_row_s_precisions_are_what_it_builds(toy, model):
    with pytest.raises(EdgeferError, match="Toy Runtime does not compute in BF16 on a CPU"):
        edgefer.build_engine(
            model, model.with_name("x.onnx"), precision="bf16", target=edgefer.BuildTarget(runtime="toy")
        )


NAMES = {row.name for row in RUNTIMES.values()} | {row.package for row in RUNTIMES.values()} - {"torch"}
"""What only the table and a runtime's own module may write. PyTorch's package is left out: training, weights and the
export need it whether or not it is a runtime that something is compared with."""

AFTER_AN_OPTION = re.compile(rf"--(detector-)?(runtime|target) ({'|'.join(map(re.escape, NAMES))})\b")


def own_modules():
    """Names → the module (a folder, for TensorRT) that may write them."""
    for row in RUNTIMES.values():
        module = row.opener.partition(":")[0] or f"edgefer.engines.{row.name}"
        path = "/".join(module.split(".")[1:3]) + (".py" if module.count(".") == 2 else "/")
        yield path, {row.name, row.package}


def literals(tree):
    """Every string of a module but docstrings; the fixed parts of f-strings too."""
    bodies = [node.body for node in ast.walk(tree) if isinstance(getattr(node, "body", None), list)]
    docstrings = {id(line.value) for body in bodies for line in body if isinstance(line, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_runtime_is_named_outside_its_module_and_the_table(path):
    """Prose may name runtimes; the examples in a command's help are commands as a user types them."""
    relative = path.relative_to(PACKAGE).as_posix()
    if relative == "runtimes.py":
        return
    allowed = set().union(*(names for home, names in own_modules() if relative.startswith(home)))
    found = []
    for node in literals(ast.parse(path.read_text("utf-8"))):
        text = node.value
        options = {match[3] for match in AFTER_AN_OPTION.finditer(text)} if not text.startswith("edgefer ") else set()
        found += [f"line {node.lineno}: {text}"] if (options | ({text} & NAMES)) - allowed else []
    assert found == []


def test_a_runtime_that_is_named_is_found():
    tree = ast.parse('"""onnxruntime"""\nf("openvino")\ng(f"--runtime openvino or {x}")\nh("an openvino session")')
    found = sorted(node.value for node in literals(tree))
    assert found == ["--runtime openvino or ", "an openvino session", "openvino"]
    assert [bool(AFTER_AN_OPTION.search(text) or text in NAMES) for text in found] == [True, False, True]
