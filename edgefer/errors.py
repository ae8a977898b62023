"""The one error a user sees: what went wrong, with which value, and what to do about it."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class EdgeferError(Exception):
    """A fault of the input or the environment, printed as ``error: …`` and ``hint: …``; exit code 2."""

    exit_code = 2

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import ``module``, or say which extra of edgefer brings it.

    ``purpose`` completes the sentence "… needs MODULE", e.g. ``"training"``.
    """
    try:
        return import_package(module)
    except ImportError as cause:
        raise EdgeferError(
            f"{purpose} needs the Python package '{module}', which cannot be imported here ({cause})",
            hint=f"pip install 'edgefer[{extra}]'",
        ) from cause


def import_package(module: str) -> ModuleType:
    """Import ``module`` with the package ``openvino_telemetry`` hidden meanwhile.

    With it, the mere import of OpenVINO (or NNCF) writes a client ID below the user's home folder and reports to Google
    Analytics; without it, they take a stub (``openvino/tools/ovc/telemetry_utils.py``). They have no setting for that
    but a file in the user's home folder. Every import of OpenVINO in this project goes through here.
    """
    modules: dict[str, Any] = sys.modules
    there, before = "openvino_telemetry" in modules, modules.get("openvino_telemetry")
    modules["openvino_telemetry"] = None
    try:
        return importlib.import_module(module)
    finally:
        if there:
            modules["openvino_telemetry"] = before
        else:
            del modules["openvino_telemetry"]
