"""The manifest: round trip, crash safety, and every file that is not one."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from edgefer import __version__, manifest
from edgefer.contract import Contract, Normalisation
from edgefer.errors import EdgeferError
from edgefer.golden import Golden
from edgefer.manifest import (
    Calibration,
    LayerPrecision,
    Manifest,
    Precision,
    manifest_path,
    read_manifest,
    verify_file,
    write_engine,
)

CONTRACT = Contract(("a", "b"), 4, 4, 1, Normalisation(), "tiny", lineage={"weights_sha256": "ef" * 32})


def make(**changes) -> Manifest:
    rng = np.random.default_rng(0)
    whole = Manifest(
        model_sha256="ab" * 32,
        weights_sha256="ef" * 32,
        target="cpu",
        runtime="onnxruntime",
        runtime_version="1.0",
        instruction_set=("avx2", "avx512_vnni"),
        contract=CONTRACT,
        precision=Precision("int8", "int8", (LayerPrecision("Conv_0", "Conv", "int8", "int8"),)),
        calibration=Calibration("cd" * 32, 100, {"a": 60, "b": 40}, "mse", 7, "synthetic", ("0123456789",)),
        golden=Golden(
            rng.integers(0, 256, (2, 4, 4, 1), dtype=np.uint8),
            rng.normal(size=(2, 2)).astype(np.float32),
            {"onnxruntime": 0.1},
        ),
    )
    return dataclasses.replace(whole, **changes)


def edited(tmp_path, **changes):
    """An engine whose manifest has top-level keys replaced (or removed, for None values)."""
    path = tmp_path / "x.onnx"
    write_engine(path, b"engine", make())
    content = json.loads(manifest_path(path).read_text())
    for key, value in changes.items():
        if value is None:
            del content[key]
        else:
            content[key] = value
    manifest_path(path).write_text(json.dumps(content))
    return path


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "x.onnx"
    written = write_engine(
        path, b"engine", make(candidates=({"label": "fp32", "ms": 1.5},), rewrites={"split-prelu": 3})
    )
    assert path.read_bytes() == b"engine"
    found = read_manifest(path)
    assert found.to_dict() == written.to_dict()
    assert found.engine_sha256 == hashlib.sha256(b"engine").hexdigest()
    assert (found.engine_file, found.engine_bytes, found.edgefer) == ("x.onnx", 6, __version__)
    assert found.contract == CONTRACT
    assert found.precision == make().precision
    assert found.calibration == make().calibration
    assert found.candidates == ({"label": "fp32", "ms": 1.5},)
    assert found.rewrites == {"split-prelu": 3}
    np.testing.assert_array_equal(found.golden.faces, make().golden.faces)
    assert (found.golden.logits == make().golden.logits).all()  # float32 survives JSON to the last bit
    assert found.golden.logits.dtype == np.float32
    verify_file(path, found)


def test_lists_of_hashes_are_read_as_manifests_had_them(tmp_path):
    """Both sets of faces stood in lists before, those of calibration with all 16 digits."""
    path = tmp_path / "x.onnx"
    write_engine(path, b"engine", make(choice_faces=("00ff00ff00", "abcdef0123")))
    content = json.loads(manifest_path(path).read_text())
    assert isinstance(content["choice_faces"], str)
    now = read_manifest(path)
    content["calibration"]["face_hashes"] = ["0123456789abcdef"]
    content["choice_faces"] = ["00ff00ff00", "abcdef0123"]
    manifest_path(path).write_text(json.dumps(content))
    found = read_manifest(path)
    assert (found.calibration, found.choice_faces) == (now.calibration, now.choice_faces)
    assert found.choice_faces == ("00ff00ff00", "abcdef0123")


def test_the_json_is_the_documented_one(tmp_path):
    write_engine(tmp_path / "x.onnx", b"engine", make(calibration=None))
    content = json.loads((tmp_path / "x.onnx.json").read_text())
    assert content["schema"] == 1
    assert content["runtime"] == {"name": "onnxruntime", "version": "1.0"}
    assert content["precision"]["layers"] == [{"layer": "Conv_0", "op": "Conv", "asked": "int8", "got": "int8"}]
    assert content["calibration"] is None
    assert content["golden"]["shape"] == [2, 4, 4, 1]
    assert content["created"].endswith("+00:00")
    documented = {
        line.split("``")[1] for line in manifest.__doc__.splitlines() if line.startswith("``") and "  " in line
    }
    assert documented - {"x.onnx", "x.engine"} == set(content)


@pytest.mark.parametrize(
    ("got", "layers", "int8"),
    [("fp32", (), False), ("int8", (), True), ("int8+bf16", (), True), ("bf16", (), False)],
)
def test_has_int8(got, layers, int8):
    assert Precision(got, got, layers).has_int8 is int8


def test_one_int8_layer_is_enough():
    assert Precision("auto", "fp32", (LayerPrecision("Conv_0", "Conv", "int8", "int8"),)).has_int8


def test_one_changed_byte_does_not_verify(tmp_path):
    path = tmp_path / "x.onnx"
    written = write_engine(path, b"engine", make())
    path.write_bytes(b"enginf")
    with pytest.raises(EdgeferError, match="not the engine its manifest describes") as error:
        verify_file(path, written)
    assert "edgefer build-engine" in error.value.hint
    assert hashlib.sha256(b"enginf").hexdigest()[:16] in error.value.message


def test_logits_that_json_cannot_say_leave_nothing_behind(tmp_path):
    golden = Golden(make().golden.faces, np.array([[np.nan, 0], [0, 0]], np.float32), {"onnxruntime": 0.1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_engine(tmp_path / "x.onnx", b"engine", make(golden=golden))
    assert list(tmp_path.iterdir()) == []


def test_missing_engine(tmp_path):
    with pytest.raises(EdgeferError, match="there is no engine"):
        verify_file(tmp_path / "x.onnx", make())


def test_missing_manifest(tmp_path):
    with pytest.raises(EdgeferError, match=r"x\.onnx has no manifest: there is no .*x\.onnx\.json") as error:
        read_manifest(tmp_path / "x.onnx")
    assert "copy x.onnx.json beside it" in error.value.hint


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1"])
def test_unreadable_manifest(tmp_path, content):
    manifest_path(tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(EdgeferError, match=r"x\.onnx\.json cannot be read") as error:
        read_manifest(tmp_path / "x.onnx")
    assert "build the engine again" in error.value.hint


def test_a_manifest_that_is_a_list(tmp_path):
    manifest_path(tmp_path / "x.onnx").write_text("[]")
    with pytest.raises(EdgeferError, match="is not a manifest: it holds a list"):
        read_manifest(tmp_path / "x.onnx")


def test_a_newer_schema(tmp_path):
    path = edited(tmp_path, schema=2, edgefer="9.9")
    with pytest.raises(
        EdgeferError, match=r"newer edgefer \(9\.9\): its schema is 2, this edgefer reads up to 1"
    ) as error:
        read_manifest(path)
    assert "pip install -U edgefer" in error.value.hint


def test_an_unknown_key_is_ignored(tmp_path):
    path = edited(tmp_path, power_mode="15W")
    assert read_manifest(path).runtime == "onnxruntime"


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": None},
        {"schema": "one"},
        {"golden": None},
        {"golden": {"shape": [1, 4, 4, 1], "faces": "!!!", "logits": [[0, 0]], "tolerance": {}}},
        {"golden": {"shape": [2, 4, 4, 1], "faces": "AAAA", "logits": [[0, 0]], "tolerance": {}}},
        {"golden": {"shape": [3], "faces": "AAAA", "logits": [[0, 0]], "tolerance": {}}},
        {"engine": "x.onnx"},
        {"calibration": {"n": 1}},
        {"precision": {"asked": "int8", "got": "int8", "layers": [{"layer": "a"}]}},
    ],
)
def test_a_damaged_manifest(tmp_path, changes):
    path = edited(tmp_path, **changes)
    with pytest.raises(EdgeferError, match="is not a manifest that edgefer wrote") as error:
        read_manifest(path)
    assert "build the engine again" in error.value.hint


def test_a_damaged_contract_inside(tmp_path):
    with pytest.raises(EdgeferError, match="contract cannot be read"):
        read_manifest(edited(tmp_path, contract={"labels": ["a"]}))


def test_manifests_from_before_rewrite_passes_are_read(tmp_path):
    assert read_manifest(edited(tmp_path, rewrites=None)).rewrites == {}


def test_layers_are_counted_among_those_with_weights():
    ops = (("Conv", "fp32"), ("Conv", "int8"), ("Gemm", "int8"), ("Relu", "int8"), ("Softmax", "fp32"))
    layers = tuple(LayerPrecision(f"{i}", op, "int8", got) for i, (op, got) in enumerate(ops))
    assert Precision("int8", "int8", layers).counted() == "2 of 3 weighted layers in INT8, 1 in FP32"
    assert Precision("int8", "int8", layers[3:]).counted() == "1 of 2 layers in INT8, 1 in FP32"
    assert Precision("fp32", "fp32").counted() == ""
