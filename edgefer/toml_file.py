"""Reading TOML that people write."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from edgefer.errors import EdgeferError


def read_toml(file: Path, what: str, hint: str) -> dict[str, Any]:
    """The content of a TOML file; ``what`` it should be, and the ``hint``, are for errors.

    Raises:
        EdgeferError: no such file, it cannot be read, is not text, or is not TOML.
    """
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        content: dict[str, Any] = toml.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as cause:
        raise EdgeferError(f"there is no {what} {file}", hint=hint) from cause
    except OSError as cause:
        raise EdgeferError(f"cannot read the {what} {file}: {cause.strerror}", hint=hint) from cause
    except UnicodeDecodeError as cause:
        raise EdgeferError(f"{file} is no {what}: it is not a text file", hint=hint) from cause
    except toml.TOMLDecodeError as cause:
        raise EdgeferError(f"{file} is not TOML: {cause}", hint=hint) from cause
    return content
