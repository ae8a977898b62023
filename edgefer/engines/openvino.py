"""OpenVINO on the CPU, with the precision that it is asked for and no other; and the Q/DQ schemes that suit it."""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.engines.cpu import saturates
from edgefer.engines.session import ModelSource, TensorSpec
from edgefer.errors import EdgeferError, require
from edgefer.limits import check_whole
from edgefer.runtimes import OPENVINO

_DTYPES = {
    "u8": "uint8",
    "i8": "int8",
    "i32": "int32",
    "i64": "int64",
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
}
_HINTS = {"fp32": "f32", "bf16": "bf16"}
_KEPT_SHAPES = 4
"""Number of compiled networks kept, one per batch size; the one whose last use is longest ago is given up first."""


class OpenVinoSession:
    """A :class:`~edgefer.engines.session.Session` over an ONNX model, compiled for each batch size that it meets.

    A fixed batch size lets OpenVINO plan memory and choose kernels once: on small networks it is faster than a dynamic
    one. Left alone, OpenVINO computes in bfloat16 wherever the CPU can, so the precision is always stated.

    Args:
        model: a file, or a serialised ModelProto.
        threads: number of threads of the whole inference.
        floats: ``"fp32"`` or ``"bf16"``: what is computed in where the file has no INT8.

    Raises:
        EdgeferError: openvino is not installed, it refuses the model, or the CPU has no bfloat16.
    """

    name = OPENVINO.name

    def __init__(self, model: ModelSource, threads: int = 1, *, floats: str = "fp32") -> None:
        check_whole("--threads", threads, "threads")
        ov = _openvino()
        self._core: Any = _core()
        if floats == "bf16" and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise EdgeferError("this CPU has no bfloat16 arithmetic", hint="build with --fp32 or --int8")
        origin = "the model" if isinstance(model, bytes) else str(Path(model))
        try:
            self._model: Any = self._core.read_model(model if isinstance(model, bytes) else os.fspath(model))
        except RuntimeError as cause:
            raise EdgeferError(
                f"OpenVINO refuses {origin}: {_first_line(cause)}",
                hint="the file is damaged or uses operators this version lacks; build it again or upgrade openvino",
            ) from cause
        self.version = str(ov.__version__).split("-", maxsplit=1)[0]
        self.threads = threads
        self.inputs = tuple(_spec(port) for port in self._model.inputs)
        self.outputs = tuple(_spec(port) for port in self._model.outputs)
        self._settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[floats],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._requests: dict[tuple[tuple[int, ...], ...], Any] = {}

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs by name.

        Raises:
            EdgeferError: the session was closed, or a feed does not fit the model.
        """
        if self._model is None:
            raise EdgeferError("an OpenVINO session was used after it was closed", hint="load the engine again")
        arrays = [np.ascontiguousarray(feeds[spec.name]) for spec in self.inputs]
        key = tuple(array.shape for array in arrays)
        try:
            request = self._requests.pop(key, None) or self._compiled(key)
            self._requests[key] = request  # last, since it was used just now
            request.infer(arrays, share_inputs=True)
        except RuntimeError as cause:
            raise EdgeferError(f"OpenVINO {self.version} could not run the model: {_first_line(cause)}") from cause
        # The tensors belong to the request and are overwritten by its next run: copy them out.
        return {spec.name: request.get_output_tensor(i).data.copy() for i, spec in enumerate(self.outputs)}

    def close(self) -> None:
        """Free the compiled networks."""
        self._requests.clear()
        self._model = self._core = None

    def _compiled(self, shapes: tuple[tuple[int, ...], ...]) -> Any:
        while len(self._requests) >= _KEPT_SHAPES:
            del self._requests[next(iter(self._requests))]
        model = self._model.clone()
        model.reshape({i: list(shape) for i, shape in enumerate(shapes)})
        return self._core.compile_model(model, "CPU", self._settings).create_infer_request()


def open_model(model: ModelSource, threads: int, precision: str) -> OpenVinoSession:
    """A session over ``model`` that computes in bfloat16 if that is a part of ``precision``, e.g. ``"int8+bf16"``."""
    return OpenVinoSession(model, threads, floats="bf16" if "bf16" in precision.split("+") else "fp32")


def schemes(instructions: Collection[str]) -> tuple[str, ...]:
    """The Q/DQ schemes that suit a CPU with these ``instructions``."""
    return ("x86",) if saturates(instructions) else ("openvino-all", "openvino-inputs")


@functools.cache
def _core() -> Any:
    """One Core a process: each one that goes away unloads OpenVINO's plugins, and loading them again can crash."""
    return _openvino().Core()


def _openvino() -> Any:
    return require(OPENVINO.package, OPENVINO.extra, "running an engine with OpenVINO")


def _spec(port: Any) -> TensorSpec:  # openvino's ports have no type stubs
    sizes = tuple(None if size.is_dynamic else size.get_length() for size in port.get_partial_shape())
    kind = port.get_element_type().get_type_name()
    return TensorSpec(port.get_any_name(), _DTYPES.get(kind, kind), sizes)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
