"""What TensorRT's engines are compared with. Right engines are emulated by noise; wrong ones have a fault too."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.engines.tensorrt.compat import target_of
from edgefer.graph.fp16 import to_fp32
from edgefer.graph.onnx_file import load_model
from edgefer.optimize import reference
from edgefer.optimize.reference import Reference, make_reference, reference_faces, rms_differences, rounds_to_even
from edgefer.optimize.settings import Quantisation
from edgefer.optimize.tensorrt_file import prepare_file

NETWORKS = ["mini_xception", pytest.param("ddamfn", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=NETWORKS)
def typed(request, tmp_path_factory, synthetic_set):
    """A network with weights of seed 0 for TensorRT 10.3 in INT8 and FP16: twin in float32, contract, reference."""
    import torch

    import edgefer

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("typed") / "model.onnx"
    edgefer.export(request.param, path, random_weights=True)
    settings = Quantisation(synthetic_set, faces=24)
    made = prepare_file(path, load_model(path), "int8+fp16", target_of("10.3"), settings)
    return to_fp32(made.model), made.contract, made.reference


def answers(model, faces):
    session = OnnxRuntimeSession(model.SerializeToString(), optimise=False)
    return np.concatenate([session.run({"faces": faces[at : at + 8]})["logits"] for at in range(0, len(faces), 8)])


def engine(model, seed):
    """The emulation that references are made with, from other seeds: 1e-3 after each convolution."""
    return reference._with_noise(model, 1e-3, seed)


def changed(model, node, position, change):
    """A copy in which only ``node`` reads another constant."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    twin = next(one for one in result.graph.node if one.output[0] == node.output[0])
    tensor = next(one for one in result.graph.initializer if one.name == node.input[position])
    value = np.array(numpy_helper.to_array(tensor))
    result.graph.initializer.append(numpy_helper.from_array(change(value), "fault"))
    twin.input[position] = "fault"
    return result


def without_a_channel(levels):
    levels[0] = 0
    return levels


def test_no_right_engine_is_refused(typed):
    twin, contract, wanted = typed
    faces = reference_faces(contract)
    for seed in (101, 102, 103):
        found = answers(engine(twin, seed), faces)
        assert wanted.fault_in(found) is None
        size, mean = rms_differences(found, wanted.logits)
        assert size < 0.8 * wanted.size
        assert mean < 0.8 * wanted.mean


def test_every_planted_fault_is_refused(typed):
    """A scale read twice as large, a channel lost, BGR for RGB; each in an engine that has noise too."""
    twin, contract, wanted = typed
    faces = reference_faces(contract)
    stored = {tensor.name for tensor in twin.graph.initializer}
    readers = [node for node in twin.graph.node if node.op_type == "DequantizeLinear"]
    weights = [node for node in readers if node.input[0] in stored]
    values = [node for node in readers if node.input[0] not in stored]
    assert min(len(weights), len(values)) > 5
    faults = {
        "scale of the faces": changed(twin, values[0], 1, lambda scale: scale * np.float32(2)),
        "scale of the last values": changed(twin, values[-1], 1, lambda scale: scale * np.float32(2)),
        "scales of the first weights": changed(twin, weights[0], 1, lambda scale: scale * np.float32(2)),
        "channel of the last layer": changed(twin, weights[-1], 0, without_a_channel),
    }
    if contract.architecture == "mini_xception":  # in a random ddamfn, one of 64 moves less than rounding does
        faults["channel of the first layer"] = changed(twin, weights[0], 0, without_a_channel)
    for what, model in faults.items():
        assert wanted.fault_in(answers(engine(model, 104), faces)) is not None, what
    if contract.channels == 3:
        assert wanted.fault_in(answers(engine(twin, 105), np.ascontiguousarray(faces[..., ::-1]))) is not None


def test_the_tolerance_is_the_files_own(typed):
    _, _, wanted = typed
    assert wanted.tolerance("int8+fp16") == pytest.approx(max(0.1, 2 * wanted.farthest))
    assert Reference.from_dict(wanted.to_dict()).to_dict() == wanted.to_dict()


def test_the_faces_are_the_same_on_every_machine(typed):
    _, contract, wanted = typed
    faces = reference_faces(contract)
    assert faces.shape == (32, *contract.face_shape)
    known = {
        "mini_xception": "b8e2fe06d3b0dbb47a6a5995b30f8db6bd3b5cc2175dc61cb147b9bef0d05da3",
        "ddamfn": "ba51a4abe2af0cf5350aa978233bc2e64a035d1eb8ac7a7e4cc3b380531da23f",
    }
    assert wanted.faces_sha256 == reference.hash_of(faces) == known[contract.architecture]


def test_onnxruntime_is_tested_before_it_is_trusted(typed, monkeypatch, capsys):
    twin, contract, _ = typed
    assert rounds_to_even()
    monkeypatch.setattr(reference, "rounds_to_even", lambda: False)
    assert make_reference(twin, contract, "int8") is None
    assert "rounds wrongly in QuantizeLinear" in capsys.readouterr().err


def test_a_quantiser_that_truncates_is_found(monkeypatch):
    class Truncates:
        def __init__(self, model, *, optimise):
            pass

        def run(self, feeds):
            return {"y": np.clip(np.trunc(feeds["x"] / np.float32(0.125)), -128, 127).astype(np.int8)}

    monkeypatch.setattr(reference, "OnnxRuntimeSession", Truncates)
    assert not rounds_to_even.__wrapped__()
