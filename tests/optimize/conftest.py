"""A small trained-like network and faces with a train split, made once: no torch, no training."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgefer
from edgefer.contract import Contract, Normalisation
from edgefer.data import open_dataset, save_npz, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.graph.canonical import canonicalise
from edgefer.graph.onnx_file import serialise, stamp

SIZE = 12
LABELS = ("dark", "bright", "striped")


def contract(weights: str = "a" * 64, **changes) -> Contract:
    settings = {"labels": LABELS, "height": SIZE, "width": SIZE, "channels": 1, "normalisation": Normalisation()}
    return Contract(**{**settings, "architecture": "tiny", "lineage": {"weights_sha256": weights}, **changes})


def network(seed: int = 0, classes: int = 3) -> onnx.ModelProto:
    """Conv-relu, depthwise conv-relu, conv, pool, Gemm; random weights."""
    random = np.random.default_rng(seed)
    shapes = {"w0": (6, 1, 3, 3), "w1": (6, 1, 3, 3), "w2": (8, 6, 1, 1), "w3": (classes, 8)}
    constants = [
        numpy_helper.from_array((random.normal(0, 2, s) / np.prod(s[1:]) ** 0.5).astype(np.float32), name)
        for name, s in shapes.items()
    ]
    constants += [
        numpy_helper.from_array(random.normal(0, 0.1, s[0]).astype(np.float32), f"b{name[1:]}")
        for name, s in shapes.items()
    ]
    constants.append(numpy_helper.from_array(np.float32(1 / 255), "scale"))
    same = {"kernel_shape": [3, 3], "pads": [1] * 4}
    nodes = [
        helper.make_node("Cast", ["faces"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast"], ["moved"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["moved", "scale"], ["x"]),
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], **same),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], group=6, **same),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], kernel_shape=[1, 1]),
        helper.make_node("GlobalAveragePool", ["c2"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["logits"], transB=1),
    ]
    faces = helper.make_tensor_value_info("faces", TensorProto.UINT8, ["N", SIZE, SIZE, 1])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])
    graph = helper.make_graph(nodes, "tiny", [faces], [logits], constants)
    return canonicalise(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def write_model(path, model, about: Contract):
    stamp(model, about, "fp32")
    path.write_bytes(serialise(model))
    return path


@pytest.fixture(scope="session")
def tiny():
    """The network; a fresh copy each time it is called."""
    return network


@pytest.fixture(scope="session")
def about():
    """Its contract."""
    return contract


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """model.onnx."""
    return write_model(tmp_path_factory.mktemp("tiny") / "model.onnx", network(), contract())


@pytest.fixture(scope="session")
def write():
    """Write another model."""
    return write_model


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """5,000 noisy faces of three classes, all in the train split: about 500 of them are `val`."""
    random = np.random.default_rng(0)
    labels = np.arange(5000) % 3
    images = random.integers(0, 120, (5000, SIZE, SIZE, 1)) + (labels == 1)[:, None, None, None] * 120
    images[labels == 2, ::2] += 120
    path = tmp_path_factory.mktemp("faces") / "faces.npz"
    save_npz(path, images.astype(np.uint8), labels, LABELS, ["train"] * 5000)
    return open_dataset(path)


@pytest.fixture(scope="session")
def mini_xception(tmp_path_factory):
    """The path of mini_xception with random weights from a seed, as exported."""
    import torch

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("mini_xception") / "model.onnx"
    edgefer.export("mini_xception", path, random_weights=True)
    return path


@pytest.fixture(scope="session")
def synthetic_set(tmp_path_factory):
    """420 synthetic faces of the classes of FER2013, all in the train split."""
    path = tmp_path_factory.mktemp("synthetic") / "faces.npz"
    images, labels = synthetic_faces(420, seed=3)
    save_npz(path, images, labels, FER2013, ["train"] * 420)
    return open_dataset(str(path))
