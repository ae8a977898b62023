"""The one file that is downloaded, once, and only if asked for: YuNet, pinned by its hash."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

from edgefer.atomic import sha256_file, write_bytes
from edgefer.errors import EdgeferError
from edgefer.progress import announce

YUNET_FILE = "face_detection_yunet_2023mar.onnx"
YUNET_URL = f"https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/{YUNET_FILE}"
YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"

_LARGEST = 2_000_000
_SECONDS = 30.0


def cache_folder() -> Path:
    """Where files are kept that can be made or fetched again: ``$XDG_CACHE_HOME/edgefer`` or ``~/.cache/edgefer``."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "edgefer"


def yunet_file(*, url: str = YUNET_URL, sha256: str = YUNET_SHA256) -> Path:
    """YuNet in the user's cache; downloaded if it is not there yet, and checked each time.

    Raises:
        EdgeferError: it cannot be downloaded, or what came has another hash.
    """
    path = cache_folder() / YUNET_FILE
    if path.is_file() and sha256_file(path) == sha256:
        return path
    announce(f"downloading YuNet, 232 kB, MIT licence, once: {url} → {path}")
    content = _fetched(url)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise EdgeferError(
            f"what came from {url} is not the YuNet that edgefer knows: its sha256 is {found[:16]}…, not "
            f"{sha256[:16]}… ({len(content)} bytes)",
            hint=f"a proxy may stand between; fetch {YUNET_FILE} by hand and pass --detector FILE",
        )
    write_bytes(path, content)
    return path


def _fetched(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            content: bytes = answer.read(_LARGEST)
    except (urllib.error.URLError, OSError) as cause:
        raise EdgeferError(
            f"YuNet cannot be downloaded from {url}: {cause}",
            hint=f"copy {YUNET_FILE} of OpenCV's zoo here and pass --detector FILE, or --detector haar",
        ) from cause
    return content
