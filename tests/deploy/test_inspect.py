"""What is said of a model, an engine, a file for a device and a plan, and of each that does not fit together."""

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

import edgefer
from edgefer.atomic import sha256_file
from edgefer.cli import cli
from edgefer.data import open_dataset
from edgefer.data.classes import FER2013
from edgefer.deploy.inspect import inspect_file, inspection_json, layer_rows, rows
from edgefer.engines.session import TensorSpec
from edgefer.engines.tensorrt.inspect import PlanHeader, read_header
from edgefer.errors import EdgeferError
from edgefer.golden import Golden
from edgefer.manifest import LayerPrecision, Manifest, Precision, write_engine
from tests.optimize.conftest import contract, network, write_model

KEYS = {
    *("schema", "file", "bytes", "sha256", "kind", "inputs", "outputs", "contract", "precision", "graph", "plan"),
    *("target", "lineage", "manifest", "weights", "problems"),
}


def header(*version):
    """The first bytes of a plan."""
    return b"ftrt" + bytes(20) + bytes(version) + bytes(100)


def plan(path, content, **changes):
    about = contract()
    layers = (LayerPrecision("Conv_0", "Conv", "int8", "int8"), LayerPrecision("Gemm_0", "Gemm", "int8", "fp16"))
    audit = {"layer": "conv + relu", "kind": "CaskConvolution", "asked": "int8", "got": "int8", "origins": ["Conv_0"]}
    settings = {
        **{"model_sha256": "cd" * 32, "weights_sha256": "a" * 64, "target": "tensorrt", "runtime": "tensorrt"},
        **{"runtime_version": "10.3.0", "instruction_set": (), "contract": about, "device": "Orin, SM87"},
        **{"precision": Precision("int8+fp16", "int8+fp16", layers), "calibration": None, "audit": (audit,)},
        "golden": Golden(np.zeros((1, *about.face_shape), np.uint8), np.ones((1, 3), np.float32), {"tensorrt": 0.1}),
    }
    write_engine(path, content, Manifest(**{**settings, **changes}))
    return path


def titles(found):
    return dict(rows(found))


def test_a_float_model(model):
    found = inspect_file(model)
    assert (found.kind, found.sha256, found.problems) == ("model", sha256_file(model), ())
    assert found.inputs == (TensorSpec("faces", "uint8", (None, 12, 12, 1)),)
    assert found.outputs == (TensorSpec("logits", "float32", (None, 7)),)
    assert found.contract.labels == FER2013
    assert (found.precision.got, set(found.counts)) == ("fp32", {"fp32"})
    assert found.graph.opset == 17
    assert found.graph.parameters == sum(np.prod(t.dims) for t in onnx.load(model).graph.initializer)
    assert (found.lineage.model.sha256, found.lineage.weights.sha256) == ("", "a" * 64)
    assert titles(found)["from weights"] == "not found here (sha256 aaaaaaaaaaaa…)"


def test_an_engine_leads_back_to_its_model(model, faces, tmp_path):
    (tmp_path / "exported.onnx").write_bytes(model.read_bytes())
    calib = open_dataset(str(faces))
    edgefer.build_engine(
        tmp_path / "exported.onnx", tmp_path / "x.onnx", precision="int8", quantisation=edgefer.Quantisation(calib)
    )
    found = inspect_file(tmp_path / "x.onnx")
    assert (found.kind, found.problems) == ("engine", ())
    assert found.lineage.model.file == tmp_path / "exported.onnx"
    assert found.counts["int8"] >= 4
    assert titles(found)["runtime"].startswith("onnxruntime ")
    assert titles(found)["calibration"].endswith("faces.npz:calib, mse")
    layers = {layer: facts for layer, *facts in layer_rows(found)}
    assert layers["layer"] == ["", "output", "parameters", "MACs", "asked", "got"]
    assert layers["Conv_1"] == ["Conv", "6×12×12", "60", "7,776", "int8", "int8"]
    assert layers["Cast_0"] == ["Cast", "12×12×1", "", "", "fp32", "fp32"]
    assert found.graph.macs == inspect_file(model).graph.macs


def test_of_files_with_one_hash_the_one_that_was_given_is_named(model, tmp_path):
    for name in ("a.onnx", "given.onnx", "z.onnx"):
        (tmp_path / name).write_bytes(model.read_bytes())
    edgefer.build_engine(tmp_path / "given.onnx", tmp_path / "x.fp32.onnx", precision="fp32")
    assert inspect_file(tmp_path / "x.fp32.onnx").lineage.model.file == tmp_path / "given.onnx"
    (tmp_path / "given.onnx").unlink()
    assert inspect_file(tmp_path / "x.fp32.onnx").lineage.model.file == tmp_path / "a.onnx"


def test_of_weights_with_one_hash_those_that_were_exported_are_named(tmp_path):
    from edgefer.models.weights import SHIPPED

    for name in ("a.safetensors", "given.safetensors"):
        (tmp_path / name).write_bytes((SHIPPED / "lenet.safetensors").read_bytes())
    edgefer.export("lenet", tmp_path / "m.onnx", weights=tmp_path / "given.safetensors", simplify=False)
    found = inspect_file(tmp_path / "m.onnx")
    assert found.lineage.weights.file == tmp_path / "given.safetensors"
    assert "weights_file" not in "".join(titles(found))


def test_weights_are_named_by_modules_and_run_no_code(tmp_path):
    torch = pytest.importorskip("torch")
    from edgefer.models import create
    from edgefer.models.weights import SHIPPED

    found = inspect_file(SHIPPED / "lenet.safetensors")
    assert (found.kind, found.contract.labels, found.problems) == ("weights", FER2013, ())
    assert titles(found)["trained on"].startswith("22,920 faces")
    torch.save({"state_dict": create("lenet", 5).state_dict()}, tmp_path / "own.pth")
    found = inspect_file(tmp_path / "own.pth")
    assert (found.contract, found.weights.networks) == (None, ("lenet",))
    assert titles(found)["fits"] == "lenet"
    assert layer_rows(found)[0] == ("module", "tensors", "values")
    assert layer_rows(found)[1][1:] == ("weight 6×1×5×5, bias 6", "156")
    assert set(inspection_json(found)) == KEYS
    torch.save(create("lenet"), tmp_path / "module.pth")
    with pytest.raises(EdgeferError, match="is a pickled module"):
        inspect_file(tmp_path / "module.pth")


def test_a_file_for_a_device_says_for_which(bundle):
    found = inspect_file(bundle / "tensorrt.types.onnx")
    assert (found.kind, found.target) == ("device-file", "TensorRT 10.0.0")
    assert found.lineage.model.file == bundle / "model.onnx"
    assert found.precision.got == "int8+fp16"
    layers = {layer.layer: layer.got for layer in found.precision.layers}
    assert layers["Conv_1"] == "int8"
    assert "fp16" in layers.values()
    assert "float16" in found.graph.weights_bytes


def test_a_plan_with_its_manifest(tmp_path):
    found = inspect_file(plan(tmp_path / "x.engine", header(10, 3, 0, 30)))
    assert (found.kind, found.header.version, found.problems) == ("plan", "10.3.0.30", ())
    assert found.inputs == (TensorSpec("faces", "uint8", (None, 12, 12, 1)),)
    assert found.counts == {"int8": 1, "fp16": 1}
    heading, *fused = layer_rows(found)
    assert heading == ("layer", "", "asked", "got", "from")
    assert fused == [("conv + relu", "CaskConvolution", "int8", "int8", "Conv_0")], "the fused layers, where known"
    assert titles(found)["header"] == "written by TensorRT 10.3.0.30"
    assert titles(found)["GPU"] == "Orin, SM87"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (header(8, 6, 2, 3), PlanHeader("TensorRT", "8.6.2.3")),
        (b"ftrt" + (1).to_bytes(4, "little") + bytes(20), PlanHeader("TensorRT", None)),
        (header(8, 6, 2, 3)[:20], PlanHeader(None, None)),
        (b"ptrt" + bytes(24), PlanHeader(None, None)),
        (b"", PlanHeader(None, None)),
    ],
)
def test_the_header_of_a_plan(content, expected):
    assert read_header(content) == expected


def test_a_plan_without_a_manifest_tells_its_version_only(tmp_path):
    (tmp_path / "x.engine").write_bytes(header(8, 5, 2, 2))
    found = inspect_file(tmp_path / "x.engine")
    assert found.contract is None
    assert titles(found)["header"] == "written by TensorRT 8.5.2.2"
    assert "there is no x.engine.json" in found.problems[0]
    assert titles(found)["precision"] == "unknown: only the manifest tells it"


def test_what_does_not_fit_together_is_said(tmp_path, model):
    engine = plan(tmp_path / "x.engine", header(10, 3, 0, 30))
    engine.write_bytes(header(10, 3, 0, 30)[:-9])
    assert "not the engine its manifest describes" in inspect_file(engine).problems[0]
    other = plan(tmp_path / "y.engine", header(8, 6, 2, 3))
    assert inspect_file(other).problems == ("the manifest says tensorrt 10.3.0, and the plan itself TensorRT 8.6.2.3",)
    (tmp_path / "z.engine").write_bytes(header(10, 3, 0, 30))
    (tmp_path / "z.engine.json").write_text("{")
    assert "cannot be read" in inspect_file(tmp_path / "z.engine").problems[0]
    beside = plan(tmp_path / "m.onnx", model.read_bytes(), precision=Precision("int8", "int8"))
    assert inspect_file(beside).problems == (
        "the manifest has another contract (labels, input, normalisation or test-time flip) than the file",
        "the manifest says int8, and the file fp32",
    )


def test_a_foreign_file(tmp_path):
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 3, 8, 8]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)]), tmp_path / "x.onnx")
    found = inspect_file(tmp_path / "x.onnx")
    assert (found.kind, found.contract, found.lineage) == ("foreign", None, None)
    assert found.inputs == (TensorSpec("x", "float32", (None, 3, 8, 8)),)
    assert titles(found)["kind"] == "ONNX without a contract of edgefer"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.onnx", None, "there is no model"),
        ("none.engine", None, "is not there"),
        ("x.onnx", "words", "is not ONNX"),
        ("x.onnx", "", "is empty"),
        ("x.engine", "", "is empty"),
        ("x.engine", "words", "neither a manifest nor the tag of a TensorRT plan"),
        ("x.pth", "x", "x.pth is a pickled module"),
        ("x.csv", "x", "neither .onnx nor .engine nor .safetensors"),
    ],
)
def test_what_cannot_be_looked_at(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(EdgeferError, match=said):
        inspect_file(tmp_path / name)


def test_the_schema_is_the_same_for_every_kind(model, bundle, tmp_path):
    (tmp_path / "bare.engine").write_bytes(header(8, 5, 2, 2))
    for file in (model, bundle / "tensorrt.flags.onnx", tmp_path / "bare.engine"):
        found = inspection_json(inspect_file(file))
        assert set(found) == KEYS
        json.dumps(found, allow_nan=False)


def test_the_command(tmp_path, model):
    done = CliRunner().invoke(cli, ["inspect", str(model), "--layers"], standalone_mode=False)
    assert (done.return_value, done.exception) == (None, None)
    assert "labels         angry, disgust" in done.output
    assert "Conv_0  " in done.output
    engine = plan(tmp_path / "x.engine", header(8, 6, 2, 3))
    done = CliRunner().invoke(cli, ["inspect", str(engine), "--json"], standalone_mode=False)
    assert done.return_value == 1, "the plan is another TensorRT's than its manifest says"
    found = json.loads(done.output)
    assert found["precision"]["layers"][1] == {"layer": "Gemm_0", "op": "Gemm", "asked": "int8", "got": "fp16"}
    assert found["manifest"]["fused_layers"][0]["origins"] == ["Conv_0"]


def test_weights_in_other_files_are_named(tmp_path):
    path = write_model(tmp_path / "x.onnx", network(), contract())
    onnx.save(onnx.load(path), tmp_path / "y.onnx", save_as_external_data=True, location="y.data", size_threshold=0)
    assert "weights lie in other files" in inspect_file(tmp_path / "y.onnx").problems[0]


def test_metadata_that_was_edited_does_not_stop_a_look(bundle, tmp_path):
    file = onnx.load(bundle / "tensorrt.flags.onnx")
    for entry in file.metadata_props:
        if entry.key in ("edgefer.origin", "edgefer.quantisation"):
            entry.value = "{nonsense"
    file.graph.initializer.add(name="odd", data_type=0)
    onnx.save(file, tmp_path / "x.onnx")
    found = inspect_file(tmp_path / "x.onnx")
    assert (found.kind, found.target, found.lineage.model.sha256) == ("device-file", None, "")
    assert "?" in found.graph.weights_bytes
    assert found.counts["int8"] >= 4
