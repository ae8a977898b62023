"""Foreign ONNX files behind a contract."""

import warnings

import numpy as np
import onnxruntime as ort
import pytest
import torch

import edgefer
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.errors import EdgeferError
from edgefer.graph.adopt import adopt
from edgefer.graph.onnx_file import load_model
from tests.graph.foreign_files import LABELS, MEAN, STD, Net, nhwc, save


def faces(count, size=16, channels=3):
    return np.random.default_rng(count).integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def foreign_answers(path, images, mean=MEAN, std=STD, nhwc=False):
    """What the file itself says: faces normalised here, in a way of its own, fed one at a time."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0].name
    pixels = ((images / 255.0 - np.array(mean)) / np.array(std)).astype(np.float32)
    pixels = pixels if nhwc else pixels.transpose(0, 3, 1, 2)
    return np.concatenate([session.run(None, {entry: pixel[None]})[0] for pixel in pixels])


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_a_float_network_with_a_softmax_and_a_batch_of_one(make, foreign, tmp_path, capsys):
    path = make()
    result = adopt(path, foreign, tmp_path / "m.onnx")
    assert result.layout == "NCHW"
    assert result.opset == 17
    model, found = load_model(result.path)
    assert found.labels == LABELS
    assert found.lineage["adopted_from"] == "foreign.onnx"
    assert len(found.lineage["weights_sha256"]) == 64
    assert model.graph.node[0].op_type == "Cast"
    assert "Softmax" not in {node.op_type for node in model.graph.node}
    logits = OnnxRuntimeSession(result.path).run({"faces": faces(5)})["logits"]
    assert logits.shape == (5, 8)
    assert np.abs(softmax(logits) - foreign_answers(path, faces(5))).max() < 1e-5
    said = capsys.readouterr().err
    assert "the Softmax at the end was cut off: outputs are logits" in said
    assert "its batch of 1 was made free" in said
    assert edgefer.adopt is adopt


@pytest.mark.parametrize("simplify", [True, False])
def test_logits_stay_as_they_are(make, foreign, tmp_path, simplify):
    path = make(softmax=False, axes={0: "b"})
    result = adopt(path, foreign, tmp_path / "m.onnx", simplify=simplify)
    assert result.changes == ()
    assert result.simplified == simplify
    logits = OnnxRuntimeSession(result.path).run({"faces": faces(3)})["logits"]
    assert np.abs(logits - foreign_answers(path, faces(3))).max() < 1e-4


def test_adopting_twice_gives_the_same_file(make, foreign, tmp_path):
    path = make()
    assert adopt(path, foreign, tmp_path / "a.onnx").sha256 == adopt(path, foreign, tmp_path / "b.onnx").sha256


def test_a_log_softmax_is_cut_off(foreign, tmp_path):
    class Log(Net):
        def forward(self, x):
            return super().forward(x).log_softmax(1)

    path = save(Log(softmax=False), tmp_path / "f.onnx", (1, 3, 16, 16))
    result = adopt(path, foreign, tmp_path / "m.onnx")
    assert "the LogSoftmax at the end" in result.changes[0]


def test_spatial_axes_left_free_become_the_contracts(make, foreign, tmp_path):
    path = make(axes={0: "b", 2: "h", 3: "w"})
    model, _ = load_model(adopt(path, foreign, tmp_path / "m.onnx").path)
    sizes = [d.dim_value or d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["N", 16, 16, 3]
    assert not {"Loop", "If", "Pad", "Resize"} & {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_other_operator_sets_are_converted(make, foreign, tmp_path, opset):
    path = make(opset=opset, name=f"o{opset}.onnx")
    result = adopt(path, foreign, tmp_path / "m.onnx")
    assert result.opset == 17
    assert f"opset {opset} was converted to 17" in result.changes
    assert load_model(result.path)[0].ir_version == 8


def test_channels_last(foreign, tmp_path):
    path = nhwc(tmp_path / "f.onnx")
    result = adopt(path, foreign, tmp_path / "m.onnx")
    assert result.layout == "NHWC"
    logits = OnnxRuntimeSession(result.path).run({"faces": faces(4)})["logits"]
    assert np.abs(logits - foreign_answers(path, faces(4), nhwc=True)).max() < 1e-4


def test_a_layout_that_cannot_be_known_is_asked_for(foreign, tmp_path):
    path = nhwc(tmp_path / "f.onnx", sizes=("n", "a", "b", "c"), rows=-1)
    with pytest.raises(EdgeferError, match=r"takes n×a×b×c, which may be NCHW or NHWC") as caught:
        adopt(path, foreign, tmp_path / "m.onnx")
    assert "--layout" in caught.value.hint
    assert adopt(path, foreign, tmp_path / "m.onnx", layout="NHWC").layout == "NHWC"
    with pytest.raises(EdgeferError, match="no layout 'NHCW'"):
        adopt(path, foreign, tmp_path / "m.onnx", layout="NHCW")


def test_of_several_outputs_the_scores_are_taken(foreign, tmp_path):
    class Two(Net):
        def forward(self, x):
            return super().forward(x), x.mean((2, 3))

    path = tmp_path / "f.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Two().eval(), (torch.randn(1, 3, 16, 16),), str(path), dynamo=False, opset_version=17)
    result = adopt(path, foreign, tmp_path / "m.onnx")
    assert len(load_model(result.path)[0].graph.output) == 1


def test_names_that_collide_with_the_contracts(foreign, tmp_path):
    path = save(Net(), tmp_path / "f.onnx", (1, 3, 16, 16), names=("logits", "faces"))
    assert adopt(path, foreign, tmp_path / "m.onnx").max_abs_diff < 1e-4
