import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

import edgefer
from edgefer.contract import Normalisation
from edgefer.errors import EdgeferError
from edgefer.graph.canonical import canonicalise
from edgefer.graph.onnx_file import load_model
from edgefer.manifest import read_manifest
from edgefer.optimize import calibrate, calibration_table
from edgefer.optimize.calibration_table import contract_sha256, read_table, shipped_table, signature
from edgefer.optimize.prepared import write_table
from edgefer.optimize.settings import Quantisation
from edgefer.provenance import unpacked


@pytest.fixture(scope="module")
def table(model, faces, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "tiny.calibration.jsonl"
    write_table(model, path, Quantisation(faces, faces=60))
    return path


def build(model, path, **settings):
    return edgefer.build_engine(model, path, precision="int8", quantisation=Quantisation(**settings))


def refused(*arguments, **settings) -> EdgeferError:
    with pytest.raises(EdgeferError) as caught:
        build(*arguments, **settings)
    return caught.value


def test_int8_from_a_table_is_int8_from_its_faces(model, faces, table, tmp_path):
    with_faces = build(model, tmp_path / "a.onnx", data=faces, faces=60, corrections=("equalise",))
    without = build(model, tmp_path / "b.onnx", table=table)
    assert without.path.read_bytes() == with_faces.path.read_bytes()
    one, two = read_manifest(with_faces.path), read_manifest(without.path)
    assert one.calibration.origin.endswith("/faces.npz:calib")
    assert replace(one.calibration, origin="faces.npz:calib") == two.calibration  # a table knows no folders
    assert one.rewrites == two.rewrites
    assert one.rewrites["equalise"] == 3  # behind conv0, conv1 and conv2


def test_a_table_is_text_without_pixels_and_reads_back(table):
    lines = [json.loads(line) for line in table.read_text().splitlines()]
    assert lines[0]["format"] == "edgefer.calibration-table"
    assert lines[0]["calibration"]["n"] == 60
    tensors = [line for line in lines if "tensor" in line]
    assert [line["component"] for line in lines[1 + len(tensors) : -1]] == ["Conv_0_out", "Conv_1_out", "Conv_2_out"]
    assert len(unpacked(lines[-1]["face_hashes"])) == 60
    assert {line["layer"] for line in tensors} >= {"Relu_0", "Relu_1", "Conv_2"}
    for line in tensors:  # a line that a person can read: the range lies in what was seen
        assert line["min"] <= line["range"][0] <= 0 <= line["range"][1] <= line["max"] or line["min"] >= 0
        assert len(json.dumps(line)) < 400
        assert all(number == float(str(np.float32(number))) for number in (line["min"], line["max"], *line["range"]))
    assert read_table(table).to_text() == table.read_text()


def test_a_table_with_a_list_of_hashes_and_more_digits_is_read(table):
    text = table.read_text()
    before = json.loads(text.splitlines()[-1])["face_hashes"]
    hashes = [face + "abcdef" for face in unpacked(before)]
    older = text.replace(json.dumps(before, ensure_ascii=False), json.dumps(hashes))
    number = json.loads(text.splitlines()[3])["max"]
    older = older.replace(repr(number), repr(float(np.float32(number))))
    assert len(older) > len(text)
    old = table.with_name("old.jsonl")
    old.write_text(older)
    assert read_table(old).to_text() == text


@pytest.mark.parametrize("name", ["x.toml", "x.json", "x"])
def test_another_suffix_is_refused_before_anything_is_read(model, tmp_path, name):
    with pytest.raises(EdgeferError, match=r"does not end in \.jsonl") as caught:
        write_table(model, tmp_path / name, Quantisation("nowhere.npz"))
    assert caught.value.hint == f"-o {tmp_path / 'x.calibration.jsonl'}"


def test_the_method_can_be_chosen_afterwards(model, table, tmp_path):
    result = build(model, tmp_path / "x.onnx", table=table, method="minmax")
    assert read_manifest(result.path).calibration.method == "minmax"


@pytest.mark.parametrize("name", ["tiny", "tiny_ferplus"])
def test_the_one_that_ships_is_found_by_the_weights(model, table, tmp_path, monkeypatch, capsys, name):
    folder = tmp_path / "ship"
    folder.mkdir()
    own = table.read_text()
    other = own.replace(read_table(table).weights_sha256, "b" * 64)
    for file, text in ((f"{name}.calibration.jsonl", own), ("tiny_other.calibration.jsonl", other)):
        (folder / file).write_text(text)
    monkeypatch.setattr(calibration_table, "recipes_folder", lambda: folder)
    sha256 = read_table(table).weights_sha256
    assert shipped_table("tiny", sha256).origin.endswith(f"{name}.calibration.jsonl")
    assert shipped_table("tiny", "c" * 64) is None
    assert shipped_table("lenet", sha256) is None
    result = build(model, tmp_path / "x.onnx")
    assert result.manifest.precision.got == "int8"
    assert "ranges from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("what", "others"),
    [("weights", ("contract", "graph")), ("contract", ("weights", "graph")), ("graph", ("weights", "contract"))],
)
def test_a_table_of_something_else_says_which(tiny, about, write, table, tmp_path, what, others):
    proto, contract = tiny(), about()
    if what == "weights":
        contract = about(weights="b" * 64)
    elif what == "contract":
        contract = about(normalisation=Normalisation(mean=(0.5,)))
    else:
        node = next(n for n in proto.graph.node if n.name == "Conv_2")
        node.attribute.append(helper.make_attribute("strides", [2, 2]))
    path = write(tmp_path / "other.onnx", proto, contract)
    fault = refused(path, tmp_path / "x.onnx", table=table)
    assert f"is another model's: different {what} (the table's " in fault.message
    assert not any(f"{other} (" in fault.message for other in others)
    assert "--calib DATA" in fault.hint
    assert "edgefer calibrate" in fault.hint
    assert not (tmp_path / "x.onnx").exists()


def test_all_that_differs_is_named(tiny, about, write, table, tmp_path):
    path = write(tmp_path / "m.onnx", tiny(), about(weights="b" * 64, labels=("a", "b", "c")))
    assert (
        "different weights (the table's aaaaaaaaaaaa…, the model's bbbbbbbbbbbb…) and contract ("
        in refused(path, tmp_path / "x.onnx", table=table).message
    )


def test_lineage_is_no_part_of_the_contract_and_moving_values_none_of_the_graph(tiny, about):
    contract = about()
    assert contract_sha256(replace(contract, lineage={"x": "y"})) == contract_sha256(contract)
    plain = tiny()
    other = tiny()
    flatten = next(node for node in other.graph.node if node.op_type == "Flatten")
    shape = onnx.numpy_helper.from_array(np.array([0, -1]), "shape")
    flatten.op_type = "Reshape"
    flatten.input.append("shape")
    other.graph.initializer.append(shape)
    assert signature(canonicalise(other)) == signature(plain)
    for tensor in other.graph.initializer:
        if tensor.name == "Conv_0_weight":  # the last digit, as another version folds a batch norm
            value = onnx.numpy_helper.to_array(tensor) * np.float32(1 + 2e-7)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    assert signature(canonicalise(other)) == signature(plain)


def test_a_table_survives_another_simplifiers_graph(tiny, about, write, table, tmp_path):
    other = tiny()
    flatten = next(node for node in other.graph.node if node.op_type == "Flatten")
    flatten.op_type = "Reshape"
    flatten.input.append("shape")
    other.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, -1]), "shape"))
    path = write(tmp_path / "other.onnx", canonicalise(other), about())
    result = build(path, tmp_path / "x.onnx", table=table)
    assert sum(layer.got == "int8" for layer in result.manifest.precision.layers) >= 7


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: "", "IndexError"),
        (lambda text: text.replace("edgefer.calibration-table", "something"), "format 'something'"),
        (lambda text: text[: len(text) // 2], "is no calibration table that edgefer wrote: line "),
        (lambda text: text.rstrip().rsplit("\n", 1)[0], "IndexError"),
        (lambda text: text + "{}\n", "lines, and it announces"),
        (lambda text: "not JSON\n" + text, "JSONDecodeError"),
        (lambda text: text.replace('"n": 60', '"n": "many"'), "invalid literal for int"),
        (lambda text: text.replace('"per_class": {', '"per_class": 3, "x": {'), "AttributeError"),
        (lambda text: text.replace('"range": [', '"range": [1, '), "line 2: ValueError: too many values"),
        (lambda text: text.replace('"symmetric": ', '"symmetric": -'), "is no range of 'Mul_0_out' by mse"),
        (lambda text: text.replace('"minmax": [', '"minmax": [NaN, '), "line 2: "),
    ],
)
def test_damaged_tables(model, table, tmp_path, damage, message):
    path = tmp_path / "t.jsonl"
    path.write_text(damage(table.read_text()))
    fault = refused(model, tmp_path / "x.onnx", table=path)
    assert message in str(fault)
    assert str(path) in fault.message


def test_what_needs_faces_is_refused_without(model, table, tmp_path):
    fault = refused(model, tmp_path / "x.onnx", table=table, corrections=("equalise", "bias"))
    assert fault.message == "bias cannot be done from a calibration table"
    assert fault.hint == "--calib DATA"
    fault = refused(model, tmp_path / "x.onnx", table=table, corrections=())
    assert "was made with equalise" in fault.message
    assert "--corrections equalise" in fault.hint
    fault = refused(model, tmp_path / "x.onnx", table=tmp_path / "none.jsonl")
    assert f"there is no calibration table {tmp_path / 'none.jsonl'}" in fault.message
    fault = refused(model, tmp_path / "x.onnx", table=table, data="faces.npz")
    assert "both set the ranges" in fault.message
    fault = refused(model, tmp_path / "x.onnx")
    assert fault.message.startswith(
        "INT8 needs faces to set its ranges, and none were given; no calibration table ships"
    )
    assert fault.message.endswith("these weights of tiny")


def test_a_table_needs_to_know_its_weights(tiny, about, write, faces, tmp_path):
    path = write(tmp_path / "m.onnx", tiny(), about(lineage={}))
    with pytest.raises(EdgeferError, match="does not say which weights it has") as caught:
        write_table(path, tmp_path / "t.jsonl", Quantisation(faces, faces=30))
    assert "from a weights file" in caught.value.hint
    with pytest.raises(EdgeferError, match="bias depends on the engine's scheme"):
        write_table(path, tmp_path / "t.jsonl", Quantisation(faces, corrections=("bias",)))


def test_a_model_whose_logits_do_not_survive_is_left_as_it_was(model, monkeypatch, capsys):
    proto, contract = load_model(model)
    monkeypatch.setattr(calibrate, "is_exact", lambda *_: False)
    scales = {"Conv_0_out": np.full(6, 0.5, np.float32)}
    assert calibrate.equalised(proto, scales, contract) is proto
    assert "equalisation is left out" in capsys.readouterr().err


def test_shipped_tables_fit_the_shipped_weights(tmp_path):
    pytest.importorskip("torch")
    from edgefer.models.weights import shipped

    for path in sorted(calibration_table.recipes_folder().glob(f"*{calibration_table.SUFFIX}")):
        name = path.name.removesuffix(calibration_table.SUFFIX)
        found = read_table(path)
        from edgefer.models.weights import load_network

        weights = shipped(name)
        assert weights is not None
        assert found.weights_sha256 == load_network(weights)[2].sha256, (
            f"{path.name} is of other weights: make it again, see calibration/README.md"
        )
