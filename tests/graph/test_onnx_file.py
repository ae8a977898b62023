"""Every file that is not an edgefer model is refused by name."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefer.contract import Contract, Normalisation
from edgefer.errors import EdgeferError
from edgefer.graph.onnx_file import load_model, serialise, stamp

CONTRACT = Contract(("a", "b"), 4, 4, 1, Normalisation(), "tiny")


def build(dtype=TensorProto.UINT8, shape=("N", 4, 4, 1), name="faces", output=("logits", TensorProto.FLOAT, ("N", 2))):
    weight = numpy_helper.from_array(np.arange(32, dtype=np.float32).reshape(16, 2), "w")
    nodes = [
        helper.make_node("Cast", [name], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], [output[0]]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, dtype, shape)],
        [helper.make_tensor_value_info(output[0], output[1], output[2])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    stamp(model, CONTRACT, "fp32")
    return model


def test_a_good_file_gives_model_and_contract(tmp_path):
    (tmp_path / "m.onnx").write_bytes(serialise(build()))
    model, contract = load_model(tmp_path / "m.onnx")
    assert contract == CONTRACT
    assert len(model.graph.node) == 3


def test_missing_folder_and_empty(tmp_path):
    with pytest.raises(EdgeferError, match=r"there is no model .*none\.onnx") as error:
        load_model(tmp_path / "none.onnx")
    assert "edgefer export" in error.value.hint
    with pytest.raises(EdgeferError, match="is not a file"):
        load_model(tmp_path)
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(EdgeferError, match=r"empty\.onnx is empty") as error:
        load_model(tmp_path / "empty.onnx")
    assert "export it again" in error.value.hint


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_file_cut_short_is_refused(tmp_path, share):
    content = build().SerializeToString()
    (tmp_path / "cut.onnx").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(EdgeferError, match=r"cut\.onnx"):
        load_model(tmp_path / "cut.onnx")


def test_something_else_is_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("this is not a model")
    with pytest.raises(EdgeferError, match=r"text\.onnx (is not ONNX|holds no network)") as error:
        load_model(tmp_path / "text.onnx")
    assert "export it again" in error.value.hint


def test_no_contract(tmp_path):
    model = build()
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(EdgeferError, match="carries no edgefer contract") as error:
        load_model(tmp_path / "m.onnx")
    assert "edgefer export" in error.value.hint


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"dtype": TensorProto.FLOAT}, "input 'faces' float N×4×4×1"),
        ({"shape": ("N", 1, 4, 4)}, "input 'faces' uint8 N×1×4×4"),
        ({"shape": ("N", "H", "W", 1)}, "input 'faces' uint8 N×H×W×1"),
        ({"shape": (1, 4, 4, 1)}, "input 'faces' uint8 1×4×4×1"),
        ({"shape": ("N", 8, 2, 1)}, "input 'faces' uint8 N×8×2×1"),
        ({"name": "image"}, "input 'image' uint8 N×4×4×1"),
        ({"output": ("scores", TensorProto.FLOAT, ("N", 2))}, "output 'scores' float N×2"),
        ({"output": ("logits", TensorProto.FLOAT, ("N", 3))}, "output 'logits' float N×3"),
    ],
)
def test_an_interface_that_is_not_the_contracts(tmp_path, change, found):
    (tmp_path / "m.onnx").write_bytes(serialise(build(**change)))
    with pytest.raises(EdgeferError) as error:
        load_model(tmp_path / "m.onnx")
    assert found in error.value.message
    assert "its contract asks for '" in error.value.message
    assert "edgefer export" in error.value.hint


def test_two_inputs(tmp_path):
    model = build()
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    (tmp_path / "m.onnx").write_bytes(serialise(model))
    with pytest.raises(EdgeferError, match="'faces' uint8 N×4×4×1 and 'more' float 1; its contract"):
        load_model(tmp_path / "m.onnx")


def test_the_checker_is_asked(tmp_path):
    model = build()
    model.graph.node[1].input[0] = "nowhere"
    (tmp_path / "m.onnx").write_bytes(serialise(model))
    with pytest.raises(EdgeferError, match="is not valid ONNX") as error:
        load_model(tmp_path / "m.onnx")
    assert "export it again" in error.value.hint


def test_weights_in_another_file(tmp_path):
    onnx.save(build(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(EdgeferError, match="keeps weights in other files") as error:
        load_model(tmp_path / "m.onnx")
    assert "store it whole" in error.value.hint


def test_stamp_replaces_and_sorts_metadata():
    model = build()
    stamp(model, CONTRACT, "int8", {"edgefer.scheme": "x"})
    keys = [entry.key for entry in model.metadata_props]
    assert keys == ["edgefer.contract", "edgefer.precision", "edgefer.scheme"]
    assert model.metadata_props[1].value == "int8"
