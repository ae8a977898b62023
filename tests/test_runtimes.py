"""The table of runtimes: what it names exists."""

import ast
from dataclasses import fields

import pytest

from edgefer.errors import EdgeferError
from edgefer.runtimes import CPU, ONNXRUNTIME, OPENVINO, RUNTIMES, TENSORRT, for_target, resolve, targets, title_of

from .test_layers import PACKAGE

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
    assert [*for_target(CPU)] == ["onnxruntime", "openvino"]
    assert (OPENVINO.option, TENSORRT.option) == ("--runtime openvino", "--target tensorrt")
    assert (title_of("tensorrt-rtx"), title_of("abacus")) == ("TensorRT-RTX", "abacus")


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
