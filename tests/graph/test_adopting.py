"""Foreign ONNX files behind a contract, and those that are refused."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import edgefer
from edgefer.contract import Contract, Normalisation
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.errors import EdgeferError
from edgefer.graph.adopting import adopt
from edgefer.graph.load import load_model

LABELS = ("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET = Normalisation(1 / 255, MEAN, STD)


class Net(nn.Module):
    """With a batch norm, a squeeze-and-excite gate and a reshape by the batch, as the usual ones have."""

    def __init__(self, classes=8, softmax=True, channels=3):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.SiLU())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.last = nn.Linear(8 * 4 * 4, classes)
        self.softmax = softmax

    def forward(self, x):
        x = self.first(x)
        x = nn.functional.avg_pool2d(x * self.gate(x), 2)
        x = self.last(x.reshape(x.shape[0], -1)) * 3
        return x.softmax(1) if self.softmax else x


def save(network, path, shape, axes=None, opset=17, names=("input", "output")):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (torch.randn(shape),),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_axes=axes and {names[0]: axes, names[1]: {0: "b"}},
        )
    return path


@pytest.fixture
def contract():
    return Contract(LABELS, 16, 16, 3, IMAGENET, "foreign")


@pytest.fixture
def make(tmp_path):
    def write(shape=(1, 3, 16, 16), axes=None, opset=17, name="foreign.onnx", **options) -> Path:
        torch.manual_seed(3)
        network = Net(**options)
        network.first[1].running_mean.uniform_(-1, 1)
        return save(network, tmp_path / name, shape, axes, opset)

    return write


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


def test_a_float_network_with_a_softmax_and_a_batch_of_one(make, contract, tmp_path, capsys):
    path = make()
    result = adopt(path, contract, tmp_path / "m.onnx")
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
def test_logits_stay_as_they_are(make, contract, tmp_path, simplify):
    path = make(softmax=False, axes={0: "b"})
    result = adopt(path, contract, tmp_path / "m.onnx", simplify=simplify)
    assert result.changes == ()
    assert result.simplified == simplify
    logits = OnnxRuntimeSession(result.path).run({"faces": faces(3)})["logits"]
    assert np.abs(logits - foreign_answers(path, faces(3))).max() < 1e-4


def test_adopting_twice_gives_the_same_file(make, contract, tmp_path):
    path = make()
    assert adopt(path, contract, tmp_path / "a.onnx").sha256 == adopt(path, contract, tmp_path / "b.onnx").sha256


def test_a_log_softmax_is_cut_off(contract, tmp_path):
    class Log(Net):
        def forward(self, x):
            return super().forward(x).log_softmax(1)

    path = save(Log(softmax=False), tmp_path / "f.onnx", (1, 3, 16, 16))
    result = adopt(path, contract, tmp_path / "m.onnx")
    assert "the LogSoftmax at the end" in result.changes[0]


def test_spatial_axes_left_free_become_the_contracts(make, contract, tmp_path):
    path = make(axes={0: "b", 2: "h", 3: "w"})
    model, _ = load_model(adopt(path, contract, tmp_path / "m.onnx").path)
    sizes = [d.dim_value or d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["N", 16, 16, 3]
    assert not {"Loop", "If", "Pad", "Resize"} & {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_other_operator_sets_are_converted(make, contract, tmp_path, opset):
    path = make(opset=opset, name=f"o{opset}.onnx")
    result = adopt(path, contract, tmp_path / "m.onnx")
    assert result.opset == 17
    assert f"opset {opset} was converted to 17" in result.changes
    assert load_model(result.path)[0].ir_version == 8


def nhwc(path, opset=17, sizes=(1, 16, 16, 3), kind=TensorProto.FLOAT, first=(), inputs=(), domain="", rows=1):
    """A tiny network in channels-last order, as Keras converters write it."""
    generator = np.random.default_rng(0)
    constants = {
        "w": generator.normal(size=(8, 3, 16, 16)).astype(np.float32) * 0.05,
        "shape": np.array([rows, 8]),
        "c": np.array([2.0], np.float32),
    }
    last = first[-1].output[0] if first else "x"
    nodes = [
        *first,
        helper.make_node("Transpose", [last], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["v"]),
        helper.make_node("Reshape", ["v", "shape"], ["y"]),
    ]
    for node in nodes[len(first) :]:
        node.domain = domain if node.op_type == "Conv" else ""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, sizes), *inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1 if rows == 1 else "n", 8])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return path


def test_channels_last(contract, tmp_path):
    path = nhwc(tmp_path / "f.onnx")
    result = adopt(path, contract, tmp_path / "m.onnx")
    assert result.layout == "NHWC"
    logits = OnnxRuntimeSession(result.path).run({"faces": faces(4)})["logits"]
    assert np.abs(logits - foreign_answers(path, faces(4), nhwc=True)).max() < 1e-4


def test_a_layout_that_cannot_be_known_is_asked_for(contract, tmp_path):
    path = nhwc(tmp_path / "f.onnx", sizes=("n", "a", "b", "c"), rows=-1)
    with pytest.raises(EdgeferError, match=r"takes n×a×b×c, which may be NCHW or NHWC") as caught:
        adopt(path, contract, tmp_path / "m.onnx")
    assert "--layout" in caught.value.hint
    assert adopt(path, contract, tmp_path / "m.onnx", layout="NHWC").layout == "NHWC"
    with pytest.raises(EdgeferError, match="no layout 'NHCW'"):
        adopt(path, contract, tmp_path / "m.onnx", layout="NHCW")


def test_of_several_outputs_the_scores_are_taken(contract, tmp_path):
    class Two(Net):
        def forward(self, x):
            return super().forward(x), x.mean((2, 3))

    path = tmp_path / "f.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Two().eval(), (torch.randn(1, 3, 16, 16),), str(path), dynamo=False, opset_version=17)
    result = adopt(path, contract, tmp_path / "m.onnx")
    assert len(load_model(result.path)[0].graph.output) == 1


def test_names_that_collide_with_the_contracts(contract, tmp_path):
    path = save(Net(), tmp_path / "f.onnx", (1, 3, 16, 16), names=("logits", "faces"))
    assert adopt(path, contract, tmp_path / "m.onnx").max_abs_diff < 1e-4


# what is refused


def refused(path, contract, tmp_path, **options):
    with pytest.raises(EdgeferError) as caught:
        adopt(path, contract, tmp_path / "m.onnx", **options)
    assert not (tmp_path / "m.onnx").exists()
    return caught.value


def test_two_inputs(contract, tmp_path):
    extra = helper.make_tensor_value_info("landmarks", TensorProto.FLOAT, [1, 68])
    fault = refused(nhwc(tmp_path / "f.onnx", inputs=[extra]), contract, tmp_path)
    assert "has 2 inputs ('x' float 1×16×16×3 and 'landmarks' float 1×68)" in fault.message
    assert "one float input" in fault.hint


def test_a_uint8_input(contract, tmp_path):
    cast = helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT)
    fault = refused(nhwc(tmp_path / "f.onnx", kind=TensorProto.UINT8, first=[cast]), contract, tmp_path)
    assert "takes 'x' uint8 1×16×16×3: preprocessing is already inside" in fault.message


def test_scaling_inside_is_not_repeated(contract, tmp_path):
    scaled = nhwc(tmp_path / "f.onnx", first=[helper.make_node("Div", ["x", "c"], ["d"])])
    fault = refused(scaled, contract, tmp_path)
    assert "scales its input itself (Div 'Div_0')" in fault.message
    assert "scale = 1.0" in fault.hint
    assert "--own-scaling" in fault.hint
    plain = Contract(LABELS, 16, 16, 3, Normalisation(1.0, (0.0,) * 3, (1.0,) * 3), "foreign")
    model, _ = load_model(adopt(scaled, plain, tmp_path / "a.onnx", simplify=False).path)
    assert [node.op_type for node in model.graph.node][:2] == ["Cast", "Div"]
    assert adopt(scaled, contract, tmp_path / "b.onnx", own_scaling=True).layout == "NHWC"


def test_another_size_than_the_contracts(make, contract, tmp_path):
    bigger = Contract(LABELS, 24, 24, 3, IMAGENET, "foreign")
    fault = refused(make(), bigger, tmp_path)
    assert "takes faces of 1×3×16×16; the contract says 24×24 pixels with 3 channels" in fault.message
    grey = Contract(LABELS, 16, 16, 1, Normalisation(1 / 255), "foreign")
    assert "16×16 pixels with 1 channels" in refused(make(), grey, tmp_path).message
    assert "which as NHWC is not" in refused(make(), contract, tmp_path, layout="NHWC").message


def test_labels_that_are_not_the_outputs(make, contract, tmp_path):
    seven = Contract(LABELS[:7], 16, 16, 3, IMAGENET, "foreign")
    fault = refused(make(), seven, tmp_path)
    assert "returns 'output' float 1×8; the contract has 7 labels" in fault.message
    assert "one label for each output" in fault.hint


def test_classes_instead_of_scores(contract, tmp_path):
    class Best(Net):
        def forward(self, x):
            return super().forward(x).argmax(1)

    fault = refused(save(Best(), tmp_path / "f.onnx", (1, 3, 16, 16)), contract, tmp_path)
    assert "returns 'output' int64" in fault.message


def test_probabilities_of_a_softmax_that_cannot_be_found(contract, tmp_path):
    class Spelt(Net):
        def forward(self, x):
            e = super().forward(x).exp()
            return e / e.sum(1, keepdim=True)

    fault = refused(save(Spelt(softmax=False), tmp_path / "f.onnx", (1, 3, 16, 16)), contract, tmp_path)
    assert "returns probabilities, and no Softmax was found" in fault.message


def test_a_batch_that_is_built_in(contract, tmp_path):
    class Baked(Net):
        def forward(self, x):
            return super().forward(x) + x.mean((0, 2, 3)).sum()

    class Expanded(Net):
        def forward(self, x):
            return super().forward(x.expand(1, 3, 16, 16).reshape(3, 256).reshape(1, 3, 16, 16))

    fault = refused(save(Baked(softmax=False), tmp_path / "f.onnx", (1, 3, 16, 16)), contract, tmp_path)
    assert "answers otherwise for three faces at once than for each alone" in fault.message
    assert "dynamic_axes" in fault.hint
    fault = refused(save(Expanded(), tmp_path / "g.onnx", (1, 3, 16, 16)), contract, tmp_path)
    assert "has a batch of one built in" in fault.message
    fault = refused(nhwc(tmp_path / "h.onnx", sizes=("n", 16, 16, 3)), contract, tmp_path)
    assert "has a batch of one built in, and cannot take more faces" in fault.message


def test_a_fixed_batch_of_several(make, contract, tmp_path):
    fault = refused(make(shape=(4, 3, 16, 16)), contract, tmp_path)
    assert "takes batches of 4 only" in fault.message


@pytest.mark.parametrize("content", [b"", b"not onnx at all", b"\x08\x07"])
def test_what_is_not_onnx(content, contract, tmp_path):
    (tmp_path / "f.onnx").write_bytes(content)
    assert "f.onnx is not ONNX, or was cut short" in refused(tmp_path / "f.onnx", contract, tmp_path).message


def test_another_suffix(make, contract, tmp_path):
    with pytest.raises(EdgeferError, match=r"written as \.onnx, not as .*m\.engine"):
        adopt(make(), contract, tmp_path / "m.engine")


def test_a_file_that_is_not_there_or_cut(make, contract, tmp_path):
    assert "there is no ONNX file" in refused(tmp_path / "none.onnx", contract, tmp_path).message
    path = make()
    path.write_bytes(path.read_bytes()[:2000])
    assert "is not ONNX, or was cut short" in refused(path, contract, tmp_path).message


def test_weights_in_a_file_that_stayed_behind(make, contract, tmp_path):
    model = onnx.load(make())
    onnx.save(model, tmp_path / "e.onnx", save_as_external_data=True, location="e.data", size_threshold=0)
    assert adopt(tmp_path / "e.onnx", contract, tmp_path / "whole.onnx").bytes > 1000
    (tmp_path / "e.data").unlink()
    fault = refused(tmp_path / "e.onnx", contract, tmp_path)
    assert "cannot be read whole" in fault.message
    assert "copy that too" in fault.hint


def test_what_edgefer_wrote_is_not_adopted_again(make, contract, tmp_path):
    adopt(make(), contract, tmp_path / "a.onnx")
    assert "is behind a contract already" in refused(tmp_path / "a.onnx", contract, tmp_path).message


def test_operators_of_one_runtime(contract, tmp_path):
    path = nhwc(tmp_path / "f.onnx", domain="com.microsoft")
    assert "uses the operator com.microsoft.Conv" in refused(path, contract, tmp_path).message


def test_an_operator_set_that_is_too_old(contract, tmp_path):
    fault = refused(nhwc(tmp_path / "f.onnx", opset=1), contract, tmp_path)
    assert "is in opset 1, which onnx" in fault.message
    assert "opset_version=17" in fault.hint


def test_quantised_files(contract, tmp_path):
    node = helper.make_node("QuantizeLinear", ["x", "c"], ["q"])
    back = helper.make_node("DequantizeLinear", ["q", "c"], ["d"])
    assert "is quantised already" in refused(nhwc(tmp_path / "f.onnx", first=[node, back]), contract, tmp_path).message
