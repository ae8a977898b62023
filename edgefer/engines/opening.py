"""From a runtime's name to a session: the one table that a further runtime joins."""

from __future__ import annotations

import os
from collections.abc import Callable

from edgefer.engines.session import Session
from edgefer.errors import EdgeferError

Source = str | os.PathLike[str] | bytes
"""A file, or a serialised model."""


def open_session(runtime: str, model: Source, threads: int, precision: str) -> Session:
    """Open ``model`` in ``runtime`` with ``threads``; ``precision`` as manifests say it, e.g. ``"int8+bf16"``.

    Raises:
        EdgeferError: the runtime is unknown, not installed, or refuses the model.
    """
    if runtime not in SESSIONS:
        raise EdgeferError(
            f"this edgefer has no runtime '{runtime}'",
            hint=f"it has {', '.join(SESSIONS)}: build the engine again for one of them",
        )
    return SESSIONS[runtime](model, threads, precision)


def _onnxruntime(model: Source, threads: int, precision: str) -> Session:
    from edgefer.engines.onnxruntime import OnnxRuntimeSession

    return OnnxRuntimeSession(model, threads)


def _openvino(model: Source, threads: int, precision: str) -> Session:
    from edgefer.engines.openvino import OpenVinoSession

    return OpenVinoSession(model, threads, floats="bf16" if "bf16" in precision.split("+") else "fp32")


SESSIONS: dict[str, Callable[[Source, int, str], Session]] = {"onnxruntime": _onnxruntime, "openvino": _openvino}
"""Runtime → what opens a model in it."""
