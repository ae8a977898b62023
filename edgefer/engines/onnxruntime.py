"""ONNX Runtime on the CPU: its session, the Q/DQ schemes that suit it, and what it says of itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.contract import INPUT_NAME
from edgefer.engines.cpu import saturates
from edgefer.engines.session import ModelSource, TensorSpec
from edgefer.errors import EdgeferError, import_package, require
from edgefer.limits import check_whole
from edgefer.runtimes import ONNXRUNTIME

_DTYPES = {
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
}


class OnnxRuntimeSession:
    """A :class:`~edgefer.engines.session.Session` over an ONNX model.

    Args:
        model: a file, or a serialised ModelProto.
        threads: inside one operator; operators run one after the other.
        optimise: all graph optimisations (fusions, layouts), which matter a lot; False runs the nodes as written.

    Raises:
        EdgeferError: onnxruntime is not installed, or it refuses the model.
    """

    name = ONNXRUNTIME.name

    def __init__(self, model: ModelSource, threads: int = 1, *, optimise: bool = True) -> None:
        check_whole("--threads", threads, "threads")
        ort: Any = require(ONNXRUNTIME.package, ONNXRUNTIME.extra, "running an ONNX engine on the CPU")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        level = ort.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
        options.log_severity_level = 3  # errors only: its warnings are about initialisers, for its developers
        origin = "the model" if isinstance(model, bytes) else str(Path(model))
        source = model if isinstance(model, bytes) else os.fspath(model)
        try:
            # The provider is named: a GPU build of onnxruntime must not move a CPU measurement elsewhere.
            self._session: Any = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as cause:  # its errors share no base class but Exception
            raise EdgeferError(
                f"onnxruntime {ort.__version__} refuses {origin}: {_first_line(cause)}",
                hint="the file is damaged or uses operators this version lacks; build it again or upgrade onnxruntime",
            ) from cause
        self.version = str(ort.__version__)
        self.threads = threads
        self.inputs = tuple(_spec(tensor) for tensor in self._session.get_inputs())
        self.outputs = tuple(_spec(tensor) for tensor in self._session.get_outputs())
        self._output_names = [spec.name for spec in self.outputs]
        self._metadata = dict(self._session.get_modelmeta().custom_metadata_map)

    @property
    def metadata(self) -> Mapping[str, str]:
        """The file's metadata, contract included; so a device reads it without the onnx package."""
        return self._metadata

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs by name.

        Raises:
            EdgeferError: the session was closed, or a feed does not fit the model.
        """
        if self._session is None:
            raise EdgeferError("an onnxruntime session was used after it was closed", hint="load the engine again")
        contiguous = {name: np.ascontiguousarray(value) for name, value in feeds.items()}
        try:
            values = self._session.run(self._output_names, contiguous)
        except Exception as cause:  # as above
            raise EdgeferError(f"onnxruntime {self.version} could not run the model: {_first_line(cause)}") from cause
        return dict(zip(self._output_names, values, strict=True))

    def close(self) -> None:
        """Free the session's memory."""
        self._session = None


def open_model(model: ModelSource, threads: int, precision: str) -> OnnxRuntimeSession:
    """A session over ``model``, whose precision is in the file."""
    return OnnxRuntimeSession(model, threads)


def open_runner(model: bytes) -> Callable[[NDArray[np.uint8]], dict[str, NDArray[Any]]]:
    """A serialised model on one thread, from faces to all outputs: how quantisation sees activations."""
    session = OnnxRuntimeSession(model)
    return lambda faces: session.run({INPUT_NAME: faces})


def schemes(instructions: Collection[str]) -> tuple[str, ...]:
    """The Q/DQ schemes that suit a CPU with these ``instructions``."""
    if saturates(instructions):
        return ("x86",)
    return ("arm", "arm-signed") if "asimd" in instructions else ("x86-vnni",)


def facts() -> dict[str, Any]:
    """The version, and the execution providers that this build has."""
    ort: Any = import_package(ONNXRUNTIME.package)
    return {"version": str(ort.__version__), "providers": list(ort.get_available_providers())}


def _spec(tensor: Any) -> TensorSpec:  # onnxruntime's NodeArg has no type stubs
    sizes = tuple(size if isinstance(size, int) else None for size in tensor.shape)
    return TensorSpec(tensor.name, _DTYPES.get(tensor.type, str(tensor.type)), sizes)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
