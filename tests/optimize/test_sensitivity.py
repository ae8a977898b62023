import json
import re

import numpy as np
import pytest
from onnx import numpy_helper

from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import Predictions
from edgefer.optimize.candidates import output_error
from edgefer.optimize.sensitivity import sensitivity
from edgefer.optimize.settings import Quantisation
from edgefer.report.optimization import draw_sensitivity, print_sensitivity


@pytest.fixture(scope="module")
def found(model, faces):
    return sensitivity(model, Quantisation(faces, faces=60), limit=90)


def test_every_weighted_layer_has_a_row_the_costliest_first(found):
    assert sorted(cost.layer for cost in found.layers) == ["Conv_0", "Conv_1", "Conv_2", "Gemm_0"]
    assert [cost.kl for cost in found.layers] == sorted((cost.kl for cost in found.layers), reverse=True)
    assert found.whole.kl > max(cost.kl for cost in found.layers) > 0
    assert found.whole.sqnr_db < min(cost.sqnr_db for cost in found.layers)
    for cost in (*found.layers, found.whole):
        assert cost.ci95_pp[0] <= cost.drop_pp <= cost.ci95_pp[1]
        assert 0 <= cost.agreement <= 1
    assert found.faces == 90
    sizes = {cost.layer: (cost.size.shape, cost.size.parameters, cost.size.macs) for cost in found.layers}
    assert sizes["Conv_0"] == ((6, 12, 12), 6 * 9 + 6, 144 * 6 * 9)
    assert sizes["Gemm_0"] == ((3,), 8 * 3 + 3, 8 * 3)
    assert found.whole.size.macs == sum(size[2] for size in sizes.values())
    assert found.float_layers["Mul_0"] == "no INT8 rule for Mul"


def test_a_spoilt_layer_comes_first(tiny, about, write, faces, tmp_path):
    spoilt = tiny()
    for tensor in spoilt.graph.initializer:
        if tensor.name == "Conv_2_weight":  # a weight that is never read much sets the scale of all the others
            value = numpy_helper.to_array(tensor).copy()
            value[:, 0] *= 0
            value[:, 0, 0, 0] = 60 * np.abs(value).max()
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    path = write(tmp_path / "spoilt.onnx", spoilt, about())
    ranked = sensitivity(path, Quantisation(faces, faces=60, corrections=()), limit=90)
    assert ranked.layers[0].layer == "Conv_2"


def test_table_json_and_picture(found, tmp_path, capsys):
    print_sensitivity(found)
    text = capsys.readouterr().out
    assert all(cost.layer in text for cost in found.layers)
    assert "all of them" in text
    assert re.search(r"\n\d layers in float in any case: .*1 × no INT8 rule for Mul", text)
    assert text.count("float in any case") == 1
    assert re.search(r"Conv_2 +Conv +8×12×12 +56 +0\.01 ", text)
    assert json.loads(json.dumps(found.to_dict()))["layers"][0]["layer"] == found.layers[0].layer
    pytest.importorskip("matplotlib")
    draw_sensitivity(found, tmp_path / "layers.png")
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(EdgeferError, match=r"does not end in \.png") as caught:
        draw_sensitivity(found, tmp_path / "layers.jpg")
    assert caught.value.hint == "--png layers.png"


def test_bad_input(model, faces):
    with pytest.raises(EdgeferError, match="onnxruntime has no scheme 'tensorrt' on this CPU") as caught:
        sensitivity(model, Quantisation(faces), scheme="tensorrt")
    assert "one of: " in caught.value.hint


def test_output_error_by_hand():
    logits = np.array([[0.0, 0.0], [3.0, 4.0]], np.float32)

    def predictions(values):
        return Predictions(values.astype(np.float32), np.zeros(2, np.int64), ("a", "b"), "", "x")

    assert output_error(predictions(logits), predictions(logits)) == (200.0, 0.0)
    sqnr_db, kl = output_error(predictions(logits), predictions(logits + np.array([[0.5, 0], [0, 0]])))
    assert sqnr_db == pytest.approx(20.0)  # 25 over 0.25
    p = 1 / (1 + np.exp(-0.5))
    assert kl == pytest.approx((0.5 * np.log(0.5 / p) + 0.5 * np.log(0.5 / (1 - p))) / 2, rel=1e-6)
    _, shifted = output_error(predictions(logits), predictions(logits + 1))
    assert shifted == pytest.approx(0, abs=1e-12)  # the same probabilities
