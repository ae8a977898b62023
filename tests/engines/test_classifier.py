"""Sessions and the classifier over them: numbers, and everything that is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from edgefer.contract import Contract, Normalisation
from edgefer.engines.classifier import Classifier
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.engines.pytorch import TorchSession
from edgefer.engines.session import TensorSpec
from edgefer.errors import EdgeferError

from .conftest import CONTRACT, WEIGHT, classify, tiny


def test_logits_are_the_matrix_product(faces):
    with classify(tiny()) as classifier:
        found = classifier.logits(faces)
        np.testing.assert_allclose(found, faces.reshape(5, 16).astype(np.float32) @ WEIGHT, rtol=1e-5)
        assert found.dtype == np.float32
        assert (classifier.runtime, classifier.precision, classifier.size_bytes) == ("onnxruntime", "fp32", len(tiny()))


def test_probabilities_are_a_softmax_that_does_not_overflow(faces):
    with classify(tiny(WEIGHT * 100)) as classifier:
        logits = classifier.logits(faces).astype(np.float64)
        found = classifier.probabilities(faces)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found, shifted / shifted.sum(axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_a_strided_batch_is_read_as_numpy_reads_it(faces):
    with classify(tiny()) as classifier:
        np.testing.assert_array_equal(classifier.logits(faces[::-1]), classifier.logits(faces)[::-1])


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (np.zeros((1, 4, 4, 1), np.float32), "not float32 1×4×4×1"),
        (np.zeros((1, 1, 4, 4), np.uint8), "not uint8 1×1×4×4"),
        (np.zeros((4, 4, 1), np.uint8), "not uint8 4×4×1"),
        (np.zeros((0, 4, 4, 1), np.uint8), "not uint8 0×4×4×1"),
        (np.zeros((1, 8, 8, 1), np.uint8), "not uint8 1×8×8×1"),
    ],
)
def test_a_wrong_batch_is_named(batch, said):
    with classify(tiny(), name="x.onnx") as classifier, pytest.raises(EdgeferError) as error:
        classifier.logits(batch)
    assert error.value.message == f"x.onnx takes uint8 N×4×4×1, {said}"
    assert "edgefer.faces.prepare" in error.value.hint


def test_use_after_close_is_an_error(faces):
    classifier = classify(tiny(), name="x.onnx")
    classifier.close()
    classifier.close()
    with pytest.raises(EdgeferError, match=r"x\.onnx was used after it was closed") as error:
        classifier.logits(faces)
    assert "`with`" in error.value.hint


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_an_error(faces, bad):
    weight = WEIGHT.copy()
    weight[0, 1] = bad
    faces[:, 0, 0, 0] = (0, 0, 0, 1, 2) if np.isinf(bad) else 1
    with classify(tiny(weight), name="x.onnx") as classifier, pytest.raises(EdgeferError) as error:
        classifier.logits(faces)
    assert error.value.message.startswith("x.onnx (fp32, onnxruntime) gave logits that are not finite for 5 of 5 faces")
    assert "--bf16 or --fp32" in error.value.hint


def test_a_session_that_is_not_the_contracts_is_refused():
    other = Contract(("a", "b"), 4, 4, 1, Normalisation(), "tiny")
    with pytest.raises(
        EdgeferError, match="has the output 'logits' float32 N×3; its contract asks for .* N×2"
    ) as error:
        Classifier(OnnxRuntimeSession(tiny()), other, precision="fp32", size_bytes=1, name="x")
    assert "export or build it again" in error.value.hint
    other = Contract(("a", "b", "c"), 8, 8, 1, Normalisation(), "tiny")
    with pytest.raises(EdgeferError, match="has the input 'faces' uint8 N×4×4×1; its contract asks for .* N×8×8×1"):
        Classifier(OnnxRuntimeSession(tiny()), other, precision="fp32", size_bytes=1, name="x")


def test_a_baked_in_batch_is_said_so(faces):
    class Fixed:
        name, version = "fake", "0"
        inputs = (TensorSpec("faces", "uint8", (1, 4, 4, 1)),)
        outputs = (TensorSpec("logits", "float32", (1, 3)),)

        def run(self, feeds):
            return {"logits": np.zeros((1, 3), np.float32)}

    with pytest.raises(EdgeferError, match="logits of shape 1×3 where 5×3 were due") as error:
        Classifier(Fixed(), CONTRACT, precision="fp32", size_bytes=1, name="x").logits(faces)
    assert "dynamic batch" in error.value.hint


def test_onnxruntime_session_describes_itself(tmp_path):
    (tmp_path / "m.onnx").write_bytes(tiny())
    session = OnnxRuntimeSession(tmp_path / "m.onnx", threads=2)
    assert session.inputs == (TensorSpec("faces", "uint8", (None, 4, 4, 1)),)
    assert session.outputs == (TensorSpec("logits", "float32", (None, 3)),)
    assert Contract.from_metadata(session.metadata, "m") == CONTRACT
    assert session.threads == 2
    assert session.version.count(".") >= 1


def test_onnxruntime_refusals(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"nothing")
    with pytest.raises(EdgeferError, match=r"onnxruntime .* refuses .*m\.onnx") as error:
        OnnxRuntimeSession(tmp_path / "m.onnx")
    assert "build it again" in error.value.hint
    with pytest.raises(EdgeferError, match="--threads is 0, not a whole number from 1"):
        OnnxRuntimeSession(tiny(), threads=0)
    session = OnnxRuntimeSession(tiny())
    with pytest.raises(EdgeferError, match="could not run the model"):
        session.run({"faces": np.zeros((1, 9, 9, 1), np.uint8)})
    session.close()
    with pytest.raises(EdgeferError, match="used after it was closed"):
        session.run({"faces": np.zeros((1, 4, 4, 1), np.uint8)})


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 3, bias=False)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.fc(self.drop(torch.flatten(x, 1)))


def test_torch_session_normalises_and_evaluates(faces):
    network = Linear().train()
    contract = Contract(("a", "b", "c"), 4, 4, 1, Normalisation(1 / 255, (0.5,), (0.5,)), "linear")
    session = TorchSession(network, contract)
    found = session.run({"faces": faces})["logits"]
    wanted = (faces.reshape(5, 16) / 255 - 0.5) / 0.5 @ network.fc.weight.detach().numpy().T.astype(np.float64)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    frozen = faces[::-1]
    frozen.flags.writeable = False
    np.testing.assert_array_equal(session.run({"faces": frozen})["logits"], found[::-1])
    assert (session.inputs[0].shape, session.outputs[0].shape) == ((None, 4, 4, 1), (None, 3))


def test_torch_session_sets_its_threads_at_each_run(faces):
    before = torch.get_num_threads()
    try:
        one, two = (TorchSession(Linear(), CONTRACT, threads=n) for n in (1, 2))
        for session, threads in ((one, 1), (two, 2), (one, 1)):
            session.run({"faces": faces})
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_torch_session_refusals(faces):
    with pytest.raises(EdgeferError, match="--threads is 0, not a whole number from 1"):
        TorchSession(Linear(), CONTRACT, threads=0)
    session = TorchSession(Linear(), CONTRACT, threads=torch.get_num_threads())
    session.close()
    with pytest.raises(EdgeferError, match="used after it was closed"):
        session.run({"faces": faces})


@pytest.mark.parametrize("count", [1, 4, 5, 11])
def test_any_number_of_faces_for_an_engine_with_one_batch_size(count):
    baked, free = classify(tiny(batch=4)), classify(tiny())
    images = np.random.default_rng(count).integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)
    np.testing.assert_allclose(baked.logits_of_all(images), free.logits_of_all(images), rtol=1e-5)
    assert (baked.session.inputs[0].limits, free.session.inputs[0].limits) == ((4, 4), (1, None))
