"""The one error a user sees: what went wrong, with which value, and what to do about it."""

from __future__ import annotations

import importlib
from types import ModuleType


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
        return importlib.import_module(module)
    except ImportError as cause:
        raise EdgeferError(
            f"{purpose} needs the Python package '{module}', which cannot be imported here ({cause})",
            hint=f"pip install 'edgefer[{extra}]'",
        ) from cause
