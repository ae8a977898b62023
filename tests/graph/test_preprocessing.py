"""Foreign files with preprocessing inside, and ends and types that a contract cannot stand for."""

import pytest
import torch
from torch import nn

from edgefer.contract import Contract, Normalisation
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.errors import EdgeferError
from edgefer.graph.adopt import adopt
from tests.graph.foreign_files import IMAGENET, LABELS, MEAN, STD, Net, save
from tests.graph.test_adopt import faces

mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
PICTURE = torch.linspace(0, 120, 3 * 16 * 16).view(3, 16, 16)


def scaled(x):
    return (x / 255 - mean) / std


BEFORE = {
    "resize": lambda x: scaled(nn.functional.interpolate(x, size=(16, 16), mode="bilinear")),
    "bgr": lambda x: scaled(x[:, [2, 1, 0]]),
    "clamp": lambda x: scaled(x.clamp(0, 255)),
    "channels": lambda x: torch.cat([x[:, 0:1] * 0.5 - 0.1, x[:, 1:2] * 0.4, x[:, 2:] * 0.3], 1),
    "mean image": lambda x: x - PICTURE,
    "stack": lambda x: torch.stack([(x[:, i] / 255 - 0.5) / 0.5 for i in range(3)], 1),
    "crop": lambda x: scaled(x[:, :, 2:-2, 2:-2]),
    "pad": lambda x: scaled(nn.functional.pad(x, (1, 1, 1, 1))),
    "split": lambda x: torch.cat([part / 255 for part in x.split(1, 1)], 1),
}


class Preprocessed(nn.Module):
    def __init__(self, before, behind=None):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, stride=2), nn.Linear(8, 8)
        self.before, self.behind = before, behind

    def forward(self, x):
        y = self.last(self.first(self.before(x)).mean((2, 3)))
        return y + self.behind(x) if self.behind else y


@pytest.mark.parametrize("name", BEFORE)
def test_scaling_on_any_path_is_not_repeated(name, foreign, tmp_path):
    size = 24 if name == "resize" else 16
    contract = Contract(LABELS, size, size, 3, IMAGENET, "foreign")
    path = save(Preprocessed(BEFORE[name]), tmp_path / "f.onnx", (1, 3, size, size))
    with pytest.raises(EdgeferError, match="scales its input itself") as caught:
        adopt(path, contract, tmp_path / "m.onnx")
    assert "--own-scaling" in caught.value.hint
    plain = Contract(LABELS, size, size, 3, Normalisation(1.0, (0.0,) * 3, (1.0,) * 3), "foreign")
    assert adopt(path, plain, tmp_path / "m.onnx", simplify=False).max_abs_diff < 1e-3


def test_scaling_beside_another_reader_of_the_input(foreign, tmp_path):
    network = Preprocessed(lambda x: x * 2 / 255 - 1, behind=lambda x: x.mean((2, 3)).mean(1, keepdim=True))
    path = save(network, tmp_path / "f.onnx", (1, 3, 16, 16), axes={0: "b"})
    with pytest.raises(EdgeferError, match="scales its input itself") as caught:
        adopt(path, foreign, tmp_path / "m.onnx")
    assert "Mul '/Mul'" in caught.value.message


def test_what_only_moves_pixels_is_taken_as_it_is(foreign, tmp_path):
    path = save(Preprocessed(lambda x: x[:, [2, 1, 0], 2:-2]), tmp_path / "f.onnx", (1, 3, 16, 16))
    assert adopt(path, foreign, tmp_path / "m.onnx").changes[0].startswith("its batch of 1")


def test_gates_and_sums_behind_the_first_layer_are_no_preprocessing(foreign, tmp_path):
    class Gated(Preprocessed):
        def forward(self, x):
            return self.last(self.first(x * self.first(x).mean((1, 2, 3), keepdim=True) / 2).mean((2, 3)))

    path = save(Gated(None), tmp_path / "f.onnx", (1, 3, 16, 16), axes={0: "b"})
    assert adopt(path, foreign, tmp_path / "m.onnx").max_abs_diff < 1e-3


def test_free_spatial_axes_are_said(make, foreign, tmp_path):
    result = adopt(make(axes={0: "b", 2: "h", 3: "w"}, softmax=False), foreign, tmp_path / "m.onnx")
    assert result.changes == ("axes of its input that it leaves free (h, w) became the contract's 16×16×3",)


def test_a_size_that_a_network_with_free_axes_does_not_run_on(make, tmp_path):
    bigger = Contract(LABELS, 24, 24, 3, IMAGENET, "foreign")
    with pytest.raises(EdgeferError) as caught:
        adopt(make(axes={0: "b", 2: "h", 3: "w"}), bigger, tmp_path / "m.onnx")
    assert "leaves the size of its faces free, and does not run on the contract's 24×24×3" in caught.value.message
    assert "make input.height and input.width of the contract" in caught.value.hint
    assert "damaged" not in str(caught.value)


def test_a_sigmoid_at_the_end(foreign, tmp_path):
    class Independent(Net):
        def forward(self, x):
            return super().forward(x).sigmoid()

    path = save(Independent(softmax=False), tmp_path / "f.onnx", (1, 3, 16, 16))
    with pytest.raises(EdgeferError, match="ends in a Sigmoid, which scores each class by itself") as caught:
        adopt(path, foreign, tmp_path / "m.onnx")
    assert "without it" in caught.value.hint


def test_a_dropped_output_is_said(foreign, tmp_path):
    class Two(Net):
        def forward(self, x):
            return super().forward(x), x.mean((2, 3))

    path = tmp_path / "f.onnx"
    torch.onnx.export(
        Two().eval(), (torch.randn(1, 3, 16, 16),), str(path), dynamo=False, output_names=["scores", "mean"]
    )
    result = adopt(path, foreign, tmp_path / "m.onnx")
    assert result.changes[0] == "'scores' is taken for the class scores, and its output 'mean' was dropped"
    assert OnnxRuntimeSession(result.path).run({"faces": faces(2)})["logits"].shape == (2, 8)


def test_a_body_in_half_precision(foreign, tmp_path):
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = Net(softmax=False).half()

        def forward(self, x):
            return self.body(x.half()).float()

    with pytest.raises(EdgeferError, match=r"computes in float16 \(the constant 'Conv_0_weight'\)") as caught:
        adopt(save(Half(), tmp_path / "f.onnx", (1, 3, 16, 16)), foreign, tmp_path / "m.onnx")
    assert "export the FP32 network" in caught.value.hint
