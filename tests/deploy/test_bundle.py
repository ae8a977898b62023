"""What lies in a bundle, what is refused, and whether a bundle is found to be whole."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import edgefer
from edgefer.atomic import sha256_file
from edgefer.cli import cli
from edgefer.contract import INPUT_NAME, OUTPUT_NAME, Contract
from edgefer.data import open_dataset, save_npz, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.deploy import check
from edgefer.deploy.bundle import make_bundle
from edgefer.deploy.check import check_bundle
from edgefer.engines.load import load_engine
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.errors import EdgeferError
from edgefer.golden import Golden
from edgefer.graph.canonical import canonicalise
from edgefer.measure.accuracy import Predictions
from edgefer.optimize.calibration_table import read_table
from edgefer.optimize.settings import Quantisation
from tests.optimize.conftest import contract, network, write_model

EVERYTHING = {
    *("README.md", "baseline.npz", "bundle.json", "contract.json", "faces.npz", "golden.faces.bin", "golden.json"),
    *(
        "edgefer-0.1.0-py3-none-any.whl",
        "model.onnx",
        "calibration.jsonl",
        "run.sh",
        "tensorrt.flags.onnx",
        "tensorrt.types.onnx",
    ),
}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_everything_is_in_it_and_hashed(bundle, model):
    manifest = read(bundle / "bundle.json")
    assert set(left(bundle)) == EVERYTHING
    assert set(manifest["files"]) == EVERYTHING - {"bundle.json"}
    for name, entry in manifest["files"].items():
        assert entry == {"sha256": sha256_file(bundle / name), "bytes": (bundle / name).stat().st_size}
    assert manifest["model_sha256"] == sha256_file(model)
    assert manifest["precision"] == "int8+fp16"
    assert manifest["calibration"]["origin"] == "faces.npz:calib"
    assert manifest["tensorrt"] == {
        **{"8.5": "tensorrt.flags.onnx", "8.6": "tensorrt.flags.onnx"},
        **{"10.0": "tensorrt.types.onnx", "11.0": "tensorrt.types.onnx"},
    }
    assert (bundle / "run.sh").stat().st_mode & 0o111
    assert (bundle / "model.onnx").read_bytes() == model.read_bytes()


def test_no_folder_of_the_host_travels(bundle, model, faces):
    for name in ("README.md", "bundle.json", "calibration.jsonl", "run.sh", "golden.json", "contract.json"):
        text = (bundle / name).read_text(encoding="utf-8")
        assert str(model.parent) not in text
        assert str(faces.parent) not in text
    assert str(model.parent) not in Predictions.load(bundle / "baseline.npz").name


def test_files_for_tensorrt_are_int8_by_flags_and_by_types(bundle):
    kinds = {
        name: {tensor.data_type for tensor in onnx.load(bundle / f"tensorrt.{name}.onnx").graph.initializer}
        for name in ("flags", "types")
    }
    assert onnx.TensorProto.FLOAT16 in kinds["types"]
    assert onnx.TensorProto.FLOAT16 not in kinds["flags"]
    for name in kinds:
        assert any(node.op_type == "QuantizeLinear" for node in onnx.load(bundle / f"tensorrt.{name}.onnx").graph.node)


def test_golden_answers_are_the_float_models(bundle):
    golden = Golden.from_dict(read(bundle / "golden.json"))
    answers = OnnxRuntimeSession(bundle / "model.onnx").run({INPUT_NAME: golden.faces})[OUTPUT_NAME]
    assert np.abs(answers - golden.logits).max() < 1e-4 * np.abs(golden.logits).max()
    assert (bundle / "golden.faces.bin").read_bytes() == golden.faces.tobytes()
    assert golden.tolerance["fp32"] == 1e-3
    assert 0.1 <= golden.tolerance["int8"] < 1, "as far as the INT8 file is from the float one, and a tenth"
    assert Contract.from_dict(read(bundle / "contract.json")) == contract(labels=FER2013)


def test_the_baseline_answered_the_faces_that_are_in_it(bundle):
    faces = open_dataset(str(bundle / "faces.npz")).picked_or("test")
    baseline = Predictions.load(bundle / "baseline.npz")
    assert (len(faces), faces.fingerprint()) == (84, baseline.faces_sha256)
    assert read(bundle / "bundle.json")["faces"] == {
        **{"origin": "faces.npz:test", "n": 84, "synthetic": False},
        **{"baseline": "model.onnx in ONNX Runtime", "baseline_top1": baseline.top1},
    }


def test_a_calibration_table_does_instead_of_faces_and_faces_are_synthetic(bundle, model, tmp_path):
    made = make_bundle(
        model, tmp_path / "b", precision="int8", quantisation=Quantisation(table=bundle / "calibration.jsonl")
    )
    assert (made.precision, made.faces.synthetic, made.faces.count) == ("int8", True, 350)
    assert (tmp_path / "b/calibration.jsonl").read_bytes() == (bundle / "calibration.jsonl").read_bytes()
    assert "TENSORRT_PRECISION=--int8\n" in (tmp_path / "b/run.sh").read_text()


def test_without_calibration_it_is_fp16_and_said(model, faces, tmp_path, capsys):
    made = make_bundle(model, tmp_path / "b", data=open_dataset(str(faces)), limit=10)
    assert made.precision == "fp16"
    assert "FP16, not INT8" in capsys.readouterr().err
    assert (made.faces.count, "calibration.jsonl" in made.files) == (10, False)
    assert "CPU_PRECISION=--fp32" in (tmp_path / "b/run.sh").read_text()


def test_the_command(model, faces, tmp_path):
    words = ["deploy", "bundle", str(model), "--fp32", "--data", str(faces), "--limit", "7", "-o", str(tmp_path / "b")]
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert done.exception is None
    assert "FP32 for TensorRT, 7 faces of faces.npz:test" in done.output
    done = CliRunner().invoke(cli, ["deploy", "check", str(tmp_path / "b")], standalone_mode=False)
    assert "files, as they were written" in done.output


@pytest.mark.parametrize(
    ("content", "said"), [({"old.txt": "x"}, "is there and is not empty"), (None, "is there and is not a folder")]
)
def test_nothing_is_overwritten(model, tmp_path, content, said):
    target = tmp_path / "b"
    if content is None:
        target.write_text("x")
    else:
        target.mkdir()
        (target / "old.txt").write_text("x")
    with pytest.raises(EdgeferError, match=said):
        make_bundle(model, target, precision="fp32")
    assert left(tmp_path) == ["b"]


@pytest.mark.parametrize(
    ("settings", "said", "hint"),
    [
        (
            {"precision": "int8"},
            "INT8 is asked for, and no calibration table ships for these weights of tiny",
            "--calib DATA",
        ),
        ({"precision": "bf16"}, "a bundle is not made for BF16", "int8+fp16"),
        ({"precision": "fp16", "quantisation": Quantisation("x")}, "--calib has no effect with --fp16", "leave it out"),
        ({"quantisation": Quantisation("x", table="y")}, "--calib and --calibration-table both set", "leave out one"),
        (
            {"quantisation": Quantisation("x", method="mse")},
            "--method has no effect with deploy bundle",
            "leave it out",
        ),
        ({"quantisation": Quantisation(table="none.jsonl")}, "there is no calibration table", "edgefer calibrate"),
        ({"precision": "fp32", "data": "none.npz"}, "none.npz", ""),
        ({"precision": "fp32", "baseline": "nobody"}, "the baseline 'nobody'", ""),
    ],
)
def test_refused(model, tmp_path, settings, said, hint):
    with pytest.raises(EdgeferError) as error:
        make_bundle(model, tmp_path / "b", **settings)
    assert said in error.value.message
    assert hint in (error.value.hint or "")
    assert left(tmp_path) == [], "nothing half-written"


def test_other_models_and_files_are_refused(bundle, tmp_path):
    with pytest.raises(EdgeferError, match="is INT8 already|INT8\\+FP16 already"):
        make_bundle(bundle / "tensorrt.types.onnx", tmp_path / "b")
    (tmp_path / "x.onnx").write_text("no model")
    with pytest.raises(EdgeferError, match="not ONNX"):
        make_bundle(tmp_path / "x.onnx", tmp_path / "b")
    other = write_model(tmp_path / "other.onnx", network(1, classes=7), contract("b" * 64, labels=FER2013))
    with pytest.raises(EdgeferError, match="is another model's"):
        make_bundle(other, tmp_path / "b", quantisation=Quantisation(table=bundle / "calibration.jsonl"))
    unknown = write_model(tmp_path / "unknown.onnx", network(), contract())
    with pytest.raises(EdgeferError, match="no synthetic faces for the labels dark, bright, striped"):
        make_bundle(unknown, tmp_path / "b", precision="fp32")
    assert left(tmp_path) == ["other.onnx", "unknown.onnx", "x.onnx"]


def test_tensorrt_has_ranges_of_its_own_where_it_gets_another_graph(faces, tmp_path):
    """A PRelu is split for CPUs and left whole for TensorRT."""
    proto = network(classes=7)
    node = next(node for node in proto.graph.node if node.op_type == "Relu")
    node.op_type = "PRelu"
    node.input.append("slope")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.full((6, 1, 1), 0.25, np.float32), "slope"))
    model = write_model(tmp_path / "model.onnx", canonicalise(proto), contract(labels=FER2013))
    made = make_bundle(
        model, tmp_path / "b", quantisation=Quantisation(open_dataset(str(faces))), data=open_dataset(str(faces))
    )
    typed = onnx.load(tmp_path / "b/tensorrt.types.onnx")
    assert "PRelu" in {node.op_type for node in typed.graph.node}
    assert made.precision == "int8+fp16"
    edgefer.build_engine(
        model, tmp_path / "x.onnx", precision="int8", quantisation=Quantisation(table=tmp_path / "b/calibration.jsonl")
    )
    with pytest.raises(EdgeferError, match="was made of the graph that CPUs get") as error:
        make_bundle(
            model,
            tmp_path / "c",
            quantisation=Quantisation(table=tmp_path / "b/calibration.jsonl"),
            data=open_dataset(str(faces)),
        )
    assert "--calib DATA" in error.value.hint
    assert not (tmp_path / "c").exists()


def test_faces_that_calibrated_are_left_out(model, faces, tmp_path, capsys):
    settings = Quantisation(open_dataset(str(faces)))
    known, test = (open_dataset(str(faces)).split(part) for part in ("calib", "test"))
    images = np.concatenate([batch for part in (known, test) for batch, _ in part.batches(100)])
    labels = np.concatenate([known.labels, test.labels])
    save_npz(tmp_path / "again.npz", images, labels, FER2013, ["test"] * len(images))
    made = make_bundle(model, tmp_path / "b", quantisation=settings, data=str(tmp_path / "again.npz"))
    assert made.faces.count == len(test)
    assert f"{len(known)} of the {len(images)} faces of again.npz:test calibrated it" in capsys.readouterr().err
    save_npz(tmp_path / "same.npz", images[: len(known)], known.labels, FER2013, ["test"] * len(known))
    with pytest.raises(EdgeferError, match=f"all {len(known)} faces of same.npz:test are calibration faces"):
        make_bundle(model, tmp_path / "c", quantisation=settings, data=str(tmp_path / "same.npz"))
    assert left(tmp_path) == ["again.npz", "b", "same.npz"]


def test_answers_to_other_faces_are_no_baseline(bundle, model, tmp_path):
    images, labels = synthetic_faces(14, seed=9)
    save_npz(tmp_path / "others.npz", images, labels, FER2013, ["test"] * 14)
    with pytest.raises(EdgeferError, match="are answers to other faces"):
        make_bundle(
            *(model, tmp_path / "b"),
            precision="fp32",
            data=str(tmp_path / "others.npz"),
            baseline=bundle / "baseline.npz",
        )


@pytest.fixture
def copy(bundle, tmp_path):
    """The bundle in a folder of the test's own."""
    target = tmp_path / "copy"
    target.mkdir()
    for path in bundle.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_an_engine_of_the_bundle_is_near_the_float_model(copy, tmp_path):
    edgefer.build_engine(
        copy / "model.onnx",
        tmp_path / "x.onnx",
        precision="int8",
        quantisation=Quantisation(table=copy / "calibration.jsonl"),
    )
    found = check_bundle(copy, tmp_path / "x.onnx")
    assert 0 < found.distance <= found.allowed < 1
    assert found.files == len(EVERYTHING) - 1
    assert read_table(copy / "calibration.jsonl").calibration.origin == "faces.npz:calib"


def test_an_engine_for_one_face_at_a_time_is_asked_so(copy, tmp_path, monkeypatch):
    edgefer.build_engine(copy / "model.onnx", tmp_path / "x.onnx", precision="fp32")
    engine, asked = load_engine(tmp_path / "x.onnx"), []
    session, real = engine.session, engine.session.run
    session.inputs = (replace(session.inputs[0], batches=(1, 1)),)
    session.run = lambda feeds: asked.append(len(feeds["faces"])) or real(feeds)
    monkeypatch.setattr(check, "load_engine", lambda path: engine)
    assert check_bundle(copy, tmp_path / "x.onnx").distance < 1e-3
    assert asked == [1, 1, 1, 1]


def test_an_engine_that_answers_otherwise_is_told(copy, tmp_path, monkeypatch):
    edgefer.build_engine(copy / "model.onnx", tmp_path / "x.onnx", precision="fp32")
    assert check_bundle(copy, tmp_path / "x.onnx").distance < 1e-3
    monkeypatch.setattr(check, "relative_difference", lambda found, golden: float("nan"))
    with pytest.raises(EdgeferError, match="does not answer as the network of"):
        check_bundle(copy, tmp_path / "x.onnx")


def test_an_engine_of_another_network_is_told(copy, tmp_path):
    write_model(tmp_path / "other.onnx", network(1, classes=7), contract("b" * 64, labels=FER2013))
    edgefer.build_engine(tmp_path / "other.onnx", tmp_path / "x.onnx", precision="fp32")
    with pytest.raises(EdgeferError, match="was built from a model with the hash"):
        check_bundle(copy, tmp_path / "x.onnx")
    with pytest.raises(EdgeferError, match="other labels, input, normalisation or test-time flip"):
        check_bundle(copy, write_model(tmp_path / "y.onnx", network(), contract()))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.onnx", b"x", "is not the file that the bundle was made with"),
        ("calibration.jsonl", None, "lacks calibration.jsonl"),
        ("bundle.json", None, "is no bundle: there is no bundle.json"),
        ("bundle.json", b"[1]", "holds a list"),
        ("bundle.json", b"{", "cannot be read"),
        ("bundle.json", b'{"schema": 9}', "has the schema 9, this edgefer reads 1"),
        ("bundle.json", b'{"schema": 1}', "is no manifest of a bundle: it lacks 'files'"),
        (
            "bundle.json",
            b'{"schema": 1, "files": {}, "model_sha256": ""}',
            "has no hash of model.onnx",
        ),
    ],
)
def test_a_bundle_that_is_not_whole(copy, name, content, said):
    if content is None:
        (copy / name).unlink()
    else:
        (copy / name).write_bytes(content)
    with pytest.raises(EdgeferError, match=said):
        check_bundle(copy)
