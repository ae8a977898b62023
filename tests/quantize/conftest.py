"""Small random networks from a seed, and a way to run them."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """Collects nodes and constants of a network that takes uint8 faces N×H×W×C and scales them to 0…1."""

    def __init__(self, size: int = 16, channels: int = 1, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.size, self.channels = size, channels
        cast = self.node("Cast", ["faces"], to=TensorProto.FLOAT)
        moved = self.node("Transpose", [cast], perm=[0, 3, 1, 2])
        self.top = self.node("Mul", [moved, self.constant("scale", np.float32(1 / 255))])

    def constant(self, name: str, value) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], **attributes) -> str:
        name = f"{op.lower()}{sum(n.op_type == op for n in self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def conv(self, x: str, inside: int, outside: int, kernel: int = 3, *, bias: bool = True, **attributes) -> str:
        group = attributes.get("group", 1)
        weights = self.random.normal(
            0, (2 / (inside // group * kernel**2)) ** 0.5, (outside, inside // group, kernel, kernel)
        )
        number = sum(n.op_type == "Conv" for n in self.nodes)
        inputs = [x, self.constant(f"conv{number}_w", weights.astype(np.float32))]
        if bias:
            inputs.append(self.constant(f"conv{number}_b", self.random.normal(0, 0.1, outside).astype(np.float32)))
        return self.node("Conv", inputs, pads=[kernel // 2] * 4, kernel_shape=[kernel, kernel], **attributes)

    def gemm(self, x: str, inside: int, outside: int, *, transposed: bool = True) -> str:
        weights = self.random.normal(0, inside**-0.5, (outside, inside)).astype(np.float32)
        number = sum(n.op_type == "Gemm" for n in self.nodes)
        bias = self.constant(f"gemm{number}_b", self.random.normal(0, 0.1, outside).astype(np.float32))
        stored = self.constant(f"gemm{number}_w", weights if transposed else np.ascontiguousarray(weights.T))
        return self.node("Gemm", [x, stored, bias], transB=int(transposed))

    def model(self, output: str, *, opset: int = 17, batch: str | int = "N", outputs: int = 2) -> onnx.ModelProto:
        for node in self.nodes:
            node.output[:] = ["logits" if name == output else name for name in node.output]
            node.input[:] = ["logits" if name == output else name for name in node.input]
        faces = helper.make_tensor_value_info("faces", TensorProto.UINT8, [batch, self.size, self.size, self.channels])
        shape = [batch, *[None] * (outputs - 1)]
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "net", [faces], [logits], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        helper.set_model_props(model, {"edgefer.contract": "{}"})
        onnx.checker.check_model(model, full_check=True)
        return model


def build_network(seed: int = 0) -> onnx.ModelProto:
    """conv-relu, max-pool, a residual block, a concatenation, an average pool, a depthwise conv, GAP, two Gemms."""
    b = Builder(seed=seed)
    x = b.node("Relu", [b.conv(b.top, 1, 16)])
    x = b.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    y = b.node("Relu", [b.conv(x, 16, 16)])
    x = b.node("Relu", [b.node("Add", [b.conv(y, 16, 16), x])])
    side = b.node("LeakyRelu", [b.conv(x, 16, 16, 1, bias=False)], alpha=0.1)
    x = b.node("Concat", [x, side], axis=1)
    x = b.node("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = b.node(
        "Clip", [b.conv(x, 32, 32, group=32), b.constant("six_low", np.float32(0)), b.constant("six", np.float32(6))]
    )
    x = b.node("Flatten", [b.node("GlobalAveragePool", [x])])
    x = b.node("Relu", [b.gemm(x, 32, 24, transposed=False)])
    return b.model(b.gemm(x, 24, 7))


def open_model(content: bytes, optimised: str | None = None) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if optimised is not None:
        options.optimized_model_filepath = optimised
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return lambda faces: dict(zip(names, session.run(names, {"faces": faces}), strict=True))


def signal_to_noise(wanted: np.ndarray, got: np.ndarray) -> float:
    """In dB."""
    return float(10 * np.log10((wanted**2).sum() / ((wanted - got) ** 2).sum()))


@pytest.fixture(scope="session")
def network() -> onnx.ModelProto:
    return build_network()


@pytest.fixture(scope="session")
def faces() -> np.ndarray:
    """96 blurred random faces, uint8 96×16×16×1."""
    coarse = np.random.default_rng(1).integers(0, 256, (96, 4, 4, 1))
    return np.kron(coarse, np.ones((1, 4, 4, 1), int)).astype(np.uint8)


@pytest.fixture(scope="session")
def builder() -> type[Builder]:
    return Builder


@pytest.fixture(scope="session")
def run() -> Callable:
    return open_model


@pytest.fixture(scope="session")
def snr() -> Callable:
    return signal_to_noise
