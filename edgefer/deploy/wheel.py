"""The wheel of the edgefer that runs here, made from its own installed files, so that a bundle can carry it.

A wheel is a zip file (https://packaging.python.org/specifications/binary-distribution-format); edgefer is pure Python,
so its files are all that goes in. Installed from a source tree it works as well: nothing is built.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import edgefer
from edgefer.errors import EdgeferError

_NAME: Final = "edgefer"
_WHEEL: Final = "Wheel-Version: 1.0\nGenerator: edgefer\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_DATE: Final = (2020, 1, 1, 0, 0, 0)  # of every file: the same files give the same wheel


def write_wheel(folder: Path) -> Path:
    """Write ``edgefer-VERSION-py3-none-any.whl`` into ``folder``; its path.

    Raises:
        EdgeferError: edgefer runs from a folder and is not installed.
    """
    try:
        installed = importlib.metadata.distribution(_NAME)
    except importlib.metadata.PackageNotFoundError as cause:
        raise EdgeferError(
            "edgefer is not installed, so a bundle cannot carry its wheel",
            hint="pip install -e . in the source tree, or pip install its wheel",
        ) from cause
    version = installed.version
    about = f"{_NAME}-{version}.dist-info"
    content = {name: path.read_bytes() for name, path in _files()}
    content[f"{about}/WHEEL"] = _WHEEL.encode()
    for name in ("METADATA", "entry_points.txt", "licenses/LICENSE"):
        text = installed.read_text(name)
        if text is not None:
            content[f"{about}/{name}"] = text.encode()
    rows = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in content.items()]
    content[f"{about}/RECORD"] = "\n".join([*rows, f"{about}/RECORD,,", ""]).encode()
    path = folder / f"{_NAME}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), data, zipfile.ZIP_DEFLATED)
    return path


def _files() -> Iterator[tuple[str, Path]]:
    """Name in the wheel → file, of the package and of the calibration tables, which a source tree keeps beside it."""
    package = Path(edgefer.__file__).parent
    beside = package.parent / "calibration"
    roots = [(package, _NAME)]
    if not (package / "calibration").is_dir() and beside.is_dir():
        roots.append((beside, f"{_NAME}/calibration"))
    for root, name in roots:
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"{name}/{path.relative_to(root).as_posix()}", path


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
