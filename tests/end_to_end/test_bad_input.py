"""What goes wrong for users, through the commands: one error, exit 2, nothing half-written."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest

from edgefer.data import save_npz, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.engines.load import load_engine
from edgefer.errors import EdgeferError
from tests.end_to_end.conftest import edgefer


def refused(done, message, hint=""):
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    error = next(line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert message in error
    assert hint in done.stderr


def test_a_class_missing_from_the_calibration_faces_is_a_note(road, tmp_path):
    images, labels = synthetic_faces(700, seed=3)
    save_npz(
        tmp_path / "no_disgust.npz",
        images[labels != 1],
        labels[labels != 1],
        FER2013,
        splits=["train"] * int((labels != 1).sum()),
    )
    done = edgefer(
        "build-engine", road.model, "--int8", "--calib", tmp_path / "no_disgust.npz", "-o", tmp_path / "x.onnx"
    )
    assert done.returncode == 0, done.stderr
    assert "has no image of disgust: the others set the ranges" in done.stderr


def test_calibrating_on_test_faces(road, tmp_path):
    done = edgefer("build-engine", road.model, "--int8", "--calib", f"{road.faces}:test", "-o", tmp_path / "x.onnx")
    refused(done, "test faces", "without ':test'")


def test_evaluating_on_calibration_faces(road):
    done = edgefer("bench", road.int8, "--data", f"{road.faces}:calib", "--baseline", road.fp32, "--seconds", 0.5)
    refused(done, "distinct faces remain, and 100 are needed", "--exclude")


def test_evaluating_on_faces_that_trained_the_baseline(road):
    done = edgefer("bench", road.fp32, "--data", f"{road.faces}:fit", "--baseline", road.weights, "--seconds", 0.5)
    refused(done, f"{road.weights.name}; 0 distinct faces remain", "--exclude")


def test_int8_without_faces(road, tmp_path):
    done = edgefer("build-engine", road.model, "--int8", "-o", tmp_path / "x.onnx")
    refused(done, "no calibration table ships for these weights of lenet", "--calib DATA")


def test_a_truncated_onnx(road, tmp_path):
    (tmp_path / "cut.onnx").write_bytes(road.model.read_bytes()[:20_000])
    refused(edgefer("build-engine", tmp_path / "cut.onnx", "--fp32", "-o", tmp_path / "x.onnx"), "cut.onnx")


def test_an_empty_onnx(road, tmp_path):
    (tmp_path / "empty.onnx").write_bytes(b"")
    refused(edgefer("build-engine", tmp_path / "empty.onnx", "--fp32", "-o", tmp_path / "x.onnx"), "empty")


def test_an_onnx_without_metadata(road, tmp_path):
    model = onnx.load(road.model)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    done = edgefer("build-engine", tmp_path / "bare.onnx", "--fp32", "-o", tmp_path / "x.onnx")
    refused(done, "carries no edgefer contract", "edgefer export")


def test_an_onnx_of_another_input(road, tmp_path):
    model = onnx.load(road.model)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 64
    onnx.save(model, tmp_path / "other.onnx")
    refused(edgefer("build-engine", tmp_path / "other.onnx", "--fp32", "-o", tmp_path / "x.onnx"), "other.onnx")


def test_a_manifest_whose_hash_differs(road, tmp_path):
    shutil.copy(road.fp32, tmp_path / "x.onnx")
    manifest = json.loads(road.fp32.with_name(road.fp32.name + ".json").read_text(encoding="utf-8"))
    manifest["engine"]["sha256"] = "0" * 64
    (tmp_path / "x.onnx.json").write_text(json.dumps(manifest), encoding="utf-8")
    done = edgefer("bench", tmp_path / "x.onnx", "--data", road.faces, "--baseline", road.fp32)
    refused(done, "is not the engine its manifest describes", "build the engine again")


def test_an_int8_engine_whose_manifest_stayed_behind(road, tmp_path):
    shutil.copy(road.int8, tmp_path / "x.onnx")
    refused(edgefer("bench", tmp_path / "x.onnx", "--data", road.faces, "--baseline", road.fp32), "no manifest")


def test_weights_of_another_network(road, tmp_path):
    done = edgefer("export", "--model", "mini_xception", "--weights", road.weights, "-o", tmp_path / "x.onnx")
    refused(done, "lenet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("target", "package", "hint"),
    [("tensorrt", "tensorrt", "--onnx-only --for JETPACK"), ("tensorrt-rtx", "tensorrt_rtx", "edgefer[rtx]")],
)
def test_targets_that_are_not_installed(road, tmp_path, target, package, hint):
    without = f"import sys; sys.modules['{package}'] = None; from edgefer.cli import main; main()"
    arguments = ("build-engine", road.model, "--fp32", "--target", target, "-o", tmp_path / "x.engine")
    done = subprocess.run(
        [sys.executable, "-c", without, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    refused(done, f"needs the Python package '{package}'", hint)


@pytest.mark.parametrize("flags", [("--fp16",), ("--bf16",), ("--int8", "--fp16")])
def test_precisions_that_onnxruntime_lacks_on_a_cpu(road, tmp_path, flags):
    calib = ("--calib", road.faces) if "--int8" in flags else ()
    done = edgefer("build-engine", road.model, *flags, *calib, "-o", tmp_path / "x.onnx")
    refused(done, "ONNX Runtime")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--fp32", "--int8"),
        ("--auto", "--runtime", "openvino"),
        ("--auto", "--target", "tensorrt"),
        ("--int8", "--max-drop", "1"),
        ("--fp32", "--calib", "x.npz"),
        ("--fp32", "--method", "mse"),
        ("--bf16", "--runtime", "openvino", "--threads", "2"),
    ],
)
def test_contradicting_flags(road, tmp_path, flags):
    done = edgefer("build-engine", road.model, *flags, "-o", tmp_path / "x.onnx")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_image_without_pixels(road, tmp_path):
    cv2 = pytest.importorskip("cv2")
    for name in FER2013:
        folder = tmp_path / "faces" / name
        folder.mkdir(parents=True)
        for index in range(4):
            cv2.imwrite(str(folder / f"{index}.png"), np.full((50, 50), 10 * index + len(name), np.uint8))
    (tmp_path / "faces" / "happy" / "3.png").write_bytes(b"")
    done = edgefer("bench", road.fp32, "--data", f"{tmp_path / 'faces'}:all", "--baseline", road.weights)
    refused(done, "3.png")


def test_quantising_twice_or_weights_are_refused_before_data_are_read(road, tmp_path):
    flags = ("--int8", "--calib", tmp_path / "none.npz", "-o", tmp_path / "x.onnx")
    refused(edgefer("build-engine", road.int8, *flags), "already quantised", "float model")
    refused(edgefer("build-engine", road.weights, *flags), "holds weights", f"export --weights {road.weights}")
    assert list(tmp_path.iterdir()) == []


def test_devices_and_links_are_not_replaced(road, tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    done = edgefer("build-engine", road.model, "--fp32", "-o", tmp_path / "pipe.onnx")
    refused(done, "not a regular file")
    (tmp_path / "real").mkdir()
    (tmp_path / "link.onnx").symlink_to(tmp_path / "real" / "x.onnx")
    assert edgefer("build-engine", road.model, "--fp32", "-o", tmp_path / "link.onnx").returncode == 0
    assert (tmp_path / "link.onnx").is_symlink()
    assert (tmp_path / "real" / "x.onnx").read_bytes() == road.fp32.read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["contract"]["labels"].reverse(), "another contract"),
        (lambda m: m["contract"]["normalisation"].update(scale=1.0), "another contract"),
        (lambda m: m["precision"].update(got="int8"), "another precision"),
        (lambda m: m["golden"]["tolerance"].update(onnxruntime=1e9), "not a manifest"),
        (lambda m: m["golden"]["logits"][0].__setitem__(0, float("nan")), "NaN is no number of JSON"),
        (lambda m: m.update(schema=True), "not a manifest"),
        (lambda m: m.update(schema=2), "newer edgefer"),
    ],
)
def test_a_manifest_that_was_edited(road, tmp_path, change, message):
    shutil.copy(road.fp32, tmp_path / "x.onnx")
    manifest = json.loads(road.fp32.with_name(road.fp32.name + ".json").read_text(encoding="utf-8"))
    change(manifest)
    (tmp_path / "x.onnx.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(EdgeferError, match=message):
        load_engine(tmp_path / "x.onnx")


def test_a_state_dict_needs_its_classes_named(road, tmp_path):
    torch = pytest.importorskip("torch")
    from edgefer.models.weights import load_weights

    torch.save(load_weights(road.weights).state, tmp_path / "w.pth")
    common = ("export", "--model", "lenet", "--weights", tmp_path / "w.pth", "-o", tmp_path / "x.onnx")
    refused(edgefer(*common), "which classes", "--labels")
    assert edgefer(*common, "--labels", ",".join(FER2013)).returncode == 0
    refused(edgefer(*common, "--labels", "a,b"), "misshapen", "number of classes")


def test_a_pytorch_baseline_without_torch(road):
    program = "import sys; sys.modules['torch'] = None; from edgefer.cli import main; main()"
    arguments = ["bench", road.fp32, "--data", road.faces, "--baseline", road.weights]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    refused(done, "baseline in PyTorch", "edgefer[export]")


@pytest.mark.parametrize("command", ["train", "export", "build"])
def test_a_full_disk(road, small_disk, command):
    disk = small_disk(64)
    arguments = {
        "train": ("train", "--model", "lenet", "--data", road.faces, "--epochs", 1, "-o", disk / "w.safetensors"),
        "export": ("export", "--model", "lenet", "--weights", road.weights, "-o", disk / "x.onnx"),
        "build": ("build-engine", road.model, "--fp32", "-o", disk / "x.onnx"),
    }[command]
    refused(edgefer(*arguments), "No space left", "free some disk space")
    assert list(disk.iterdir()) == []


def test_data_that_are_not_fer2013(road, tmp_path):
    (tmp_path / "iris.csv").write_text("sepal,petal\n1,2\n", encoding="utf-8")
    refused(edgefer("bench", road.fp32, "--data", tmp_path / "iris.csv", "--baseline", road.weights), "iris.csv")
