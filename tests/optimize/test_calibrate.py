import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edgefer.contract import Contract, Normalisation
from edgefer.data import open_dataset, save_npz
from edgefer.optimize.calibrate import take_ranges
from edgefer.optimize.settings import CalibrationRecipe
from edgefer.quantize.observation import DEFAULT_BUDGET, activation_bytes


def test_a_network_with_large_activations_is_calibrated_a_face_at_a_time(tmp_path):
    weights = numpy_helper.from_array(np.ones((160, 1, 3, 3), np.float32), "w")
    nodes = [
        helper.make_node("Cast", ["faces"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "w"], ["wide"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["wide"], ["rectified"]),
        helper.make_node("GlobalAveragePool", ["rectified"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
    ]
    faces = helper.make_tensor_value_info("faces", TensorProto.UINT8, ["N", 256, 256, 1])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 160])
    graph = helper.make_graph(nodes, "wide", [faces], [logits], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert activation_bytes(model) > DEFAULT_BUDGET
    images = np.random.default_rng(0).integers(0, 256, (3, 256, 256, 1), dtype=np.uint8)
    save_npz(tmp_path / "faces.npz", images, [0, 1, 0], ["a", "b"])
    contract = Contract(("a", "b"), 256, 256, 1, Normalisation(), "wide")
    ranges, record = take_ranges(
        model, contract, open_dataset(f"{tmp_path / 'faces.npz'}:all"), CalibrationRecipe(3, 0, "minmax")
    )
    assert ranges.faces == record.n == 3
    assert 0 < ranges["rectified"].maximum <= 9 * 255
