"""Foreign ONNX files that cannot be put behind a contract, and what is said of each."""

from dataclasses import replace

import onnx
import pytest
from onnx import TensorProto, helper

from edgefer.contract import Contract, Normalisation
from edgefer.errors import EdgeferError
from edgefer.graph.adopt import adopt
from edgefer.graph.onnx_file import load_model
from tests.graph.foreign_files import IMAGENET, LABELS, Net, nhwc, save


def refused(path, foreign, tmp_path, **options):
    with pytest.raises(EdgeferError) as caught:
        adopt(path, foreign, tmp_path / "m.onnx", **options)
    assert not (tmp_path / "m.onnx").exists()
    return caught.value


def test_two_inputs(foreign, tmp_path):
    extra = helper.make_tensor_value_info("landmarks", TensorProto.FLOAT, [1, 68])
    fault = refused(nhwc(tmp_path / "f.onnx", inputs=[extra]), foreign, tmp_path)
    assert "has 2 inputs ('x' float 1×16×16×3 and 'landmarks' float 1×68)" in fault.message
    assert "one float input" in fault.hint


def test_a_flipped_contract(make, foreign, tmp_path):
    fault = refused(make(), replace(foreign, test_time_flip=True), tmp_path)
    assert "the contract has test_time_flip" in fault.message
    assert "test_time_flip = false" in fault.hint


def test_a_uint8_input(foreign, tmp_path):
    cast = helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT)
    fault = refused(nhwc(tmp_path / "f.onnx", kind=TensorProto.UINT8, first=[cast]), foreign, tmp_path)
    assert "takes 'x' uint8 1×16×16×3: preprocessing is already inside" in fault.message


def test_scaling_inside_is_not_repeated(foreign, tmp_path):
    scaled = nhwc(tmp_path / "f.onnx", first=[helper.make_node("Div", ["x", "c"], ["d"])])
    fault = refused(scaled, foreign, tmp_path)
    assert "scales its input itself (Div 'Div_0')" in fault.message
    assert "scale = 1.0" in fault.hint
    assert "--own-scaling" in fault.hint
    plain = Contract(LABELS, 16, 16, 3, Normalisation(1.0, (0.0,) * 3, (1.0,) * 3), "foreign")
    model, _ = load_model(adopt(scaled, plain, tmp_path / "a.onnx", simplify=False).path)
    assert [node.op_type for node in model.graph.node][:2] == ["Cast", "Div"]
    assert adopt(scaled, foreign, tmp_path / "b.onnx", own_scaling=True).layout == "NHWC"


def test_another_size_than_the_contracts(make, foreign, tmp_path):
    bigger = Contract(LABELS, 24, 24, 3, IMAGENET, "foreign")
    fault = refused(make(), bigger, tmp_path)
    assert "takes faces of 1×3×16×16; the contract says 24×24 pixels with 3 channels" in fault.message
    grey = Contract(LABELS, 16, 16, 1, Normalisation(1 / 255), "foreign")
    assert "16×16 pixels with 1 channels" in refused(make(), grey, tmp_path).message
    assert "which as NHWC is not" in refused(make(), foreign, tmp_path, layout="NHWC").message


def test_labels_that_are_not_the_outputs(make, foreign, tmp_path):
    seven = Contract(LABELS[:7], 16, 16, 3, IMAGENET, "foreign")
    fault = refused(make(), seven, tmp_path)
    assert "returns 'output' float 1×8; the contract has 7 labels" in fault.message
    assert "one label for each output" in fault.hint


def test_classes_instead_of_scores(foreign, tmp_path):
    class Best(Net):
        def forward(self, x):
            return super().forward(x).argmax(1)

    fault = refused(save(Best(), tmp_path / "f.onnx", (1, 3, 16, 16)), foreign, tmp_path)
    assert "returns 'output' int64" in fault.message


def test_probabilities_of_a_softmax_that_cannot_be_found(foreign, tmp_path):
    class Spelt(Net):
        def forward(self, x):
            e = super().forward(x).exp()
            return e / e.sum(1, keepdim=True)

    fault = refused(save(Spelt(softmax=False), tmp_path / "f.onnx", (1, 3, 16, 16)), foreign, tmp_path)
    assert "returns probabilities, and no Softmax was found" in fault.message


def test_a_batch_that_is_built_in(foreign, tmp_path):
    class Baked(Net):
        def forward(self, x):
            return super().forward(x) + x.mean((0, 2, 3)).sum()

    class Expanded(Net):
        def forward(self, x):
            return super().forward(x.expand(1, 3, 16, 16).reshape(3, 256).reshape(1, 3, 16, 16))

    fault = refused(save(Baked(softmax=False), tmp_path / "f.onnx", (1, 3, 16, 16)), foreign, tmp_path)
    assert "answers otherwise for three faces at once than for each alone" in fault.message
    assert "dynamic_axes" in fault.hint
    fault = refused(save(Expanded(), tmp_path / "g.onnx", (1, 3, 16, 16)), foreign, tmp_path)
    assert "has a batch of one built in" in fault.message
    fault = refused(nhwc(tmp_path / "h.onnx", sizes=("n", 16, 16, 3)), foreign, tmp_path)
    assert "has a batch of one built in, and cannot take more faces" in fault.message


def test_a_fixed_batch_of_several(make, foreign, tmp_path):
    fault = refused(make(shape=(4, 3, 16, 16)), foreign, tmp_path)
    assert "takes batches of 4 only" in fault.message


@pytest.mark.parametrize("content", [b"", b"not onnx at all", b"\x08\x07"])
def test_what_is_not_onnx(content, foreign, tmp_path):
    (tmp_path / "f.onnx").write_bytes(content)
    assert "f.onnx is not ONNX, or was cut short" in refused(tmp_path / "f.onnx", foreign, tmp_path).message


def test_another_suffix(make, foreign, tmp_path):
    with pytest.raises(EdgeferError, match=r"written as \.onnx, not as .*m\.engine"):
        adopt(make(), foreign, tmp_path / "m.engine")


def test_a_file_that_is_not_there_or_cut(make, foreign, tmp_path):
    assert "there is no ONNX file" in refused(tmp_path / "none.onnx", foreign, tmp_path).message
    path = make()
    path.write_bytes(path.read_bytes()[:2000])
    assert "is not ONNX, or was cut short" in refused(path, foreign, tmp_path).message


def test_weights_in_a_file_that_stayed_behind(make, foreign, tmp_path):
    model = onnx.load(make())
    onnx.save(model, tmp_path / "e.onnx", save_as_external_data=True, location="e.data", size_threshold=0)
    assert adopt(tmp_path / "e.onnx", foreign, tmp_path / "whole.onnx").bytes > 1000
    (tmp_path / "e.data").unlink()
    fault = refused(tmp_path / "e.onnx", foreign, tmp_path)
    assert "cannot be read whole" in fault.message
    assert "copy that too" in fault.hint


def test_what_edgefer_wrote_is_not_adopted_again(make, foreign, tmp_path):
    adopt(make(), foreign, tmp_path / "a.onnx")
    assert "is behind a contract already" in refused(tmp_path / "a.onnx", foreign, tmp_path).message


def test_operators_of_one_runtime(foreign, tmp_path):
    path = nhwc(tmp_path / "f.onnx", domain="com.microsoft")
    assert "uses the operator com.microsoft.Conv" in refused(path, foreign, tmp_path).message


def test_an_operator_set_that_is_too_old(foreign, tmp_path):
    fault = refused(nhwc(tmp_path / "f.onnx", opset=1), foreign, tmp_path)
    assert "is in opset 1, which onnx" in fault.message
    assert "opset_version=17" in fault.hint


def test_quantised_files(foreign, tmp_path):
    node = helper.make_node("QuantizeLinear", ["x", "c"], ["q"])
    back = helper.make_node("DequantizeLinear", ["q", "c"], ["d"])
    assert "is quantised already" in refused(nhwc(tmp_path / "f.onnx", first=[node, back]), foreign, tmp_path).message
