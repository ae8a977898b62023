"""NVIDIA's libraries of the system: CUDA, cuDNN and TensorRT, from package lists and, failing that, from file names."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgefer.doctor.debian import upstream
from edgefer.measure.telemetry.sensors import text

TRTEXEC: Final = "usr/src/tensorrt/bin/trtexec"
_PACKAGES: Final = {
    "cuda": re.compile(r"cuda-cudart-\d+-\d+"),
    "cudnn": re.compile(r"libcudnn\d+(-cuda-\d+)?"),
    "tensorrt": re.compile(r"libnvinfer\d+"),
}
_MADE_FOR: Final = re.compile(r"\+cuda(\d+\.\d+)")
_FOLDERS: Final = ("usr/lib/*-linux-gnu", "usr/local/lib", "usr/local/tensorrt/lib", "opt/tensorrt/lib")


@dataclass(frozen=True)
class Library:
    """A library of the system: its version, the package or file that says so, and the CUDA that it was made for."""

    version: str
    source: str
    cuda: str | None = None


@dataclass(frozen=True)
class Libraries:
    """What is there; None is what is not. ``trtexec`` is the path of NVIDIA's builder."""

    cuda: Library | None
    cudnn: Library | None
    tensorrt: Library | None
    trtexec: str | None
    python_bindings: bool
    """Whether the package python3-libnvinfer is installed: TensorRT's Python, for the system's own interpreter."""


def read_libraries(packages: Mapping[str, str], root: Path = Path("/")) -> Libraries:
    """Look for them below ``root``.

    Args:
        packages: as :func:`edgefer.doctor.debian.installed_packages` gives them.
        root: ``/``, or a recorded tree.
    """
    tool = root / TRTEXEC
    elsewhere = shutil.which("trtexec") if root == Path("/") else None
    return Libraries(
        cuda=_packaged("cuda", packages) or _toolkit(root),
        cudnn=_packaged("cudnn", packages) or _filed("libcudnn.so", root),
        tensorrt=_packaged("tensorrt", packages) or _filed("libnvinfer.so", root),
        trtexec=f"/{TRTEXEC}" if tool.is_file() else elsewhere,
        python_bindings="python3-libnvinfer" in packages,
    )


def _packaged(what: str, packages: Mapping[str, str]) -> Library | None:
    """The newest, where there are several."""
    matching = [name for name in packages if _PACKAGES[what].fullmatch(name)]
    if not matching:
        return None
    name = max(matching, key=lambda package: _numbers(upstream(packages[package])))
    made_for = _MADE_FOR.search(packages[name])
    return Library(upstream(packages[name]), name, made_for[1] if made_for else None)


def _toolkit(root: Path) -> Library | None:
    content = text(root / "usr/local/cuda/version.json")
    try:
        return None if content is None else Library(str(json.loads(content)["cuda"]["version"]), "version.json")
    except (ValueError, KeyError, TypeError):  # cut short, or of another form
        return None


def _filed(name: str, root: Path) -> Library | None:
    """From ``libnvinfer.so.10.3.0``: the file that carries all of its version in its name."""
    pattern = re.compile(re.escape(name) + r"\.(\d+\.\d+\.\d+[\d.]*)")
    files = [path for folder in _FOLDERS for path in root.glob(f"{folder}/{name}.*")]
    found = {match[1]: path.name for path in files if (match := pattern.fullmatch(path.name))}
    newest = max(found, key=_numbers, default=None)
    return None if newest is None else Library(newest, found[newest])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
