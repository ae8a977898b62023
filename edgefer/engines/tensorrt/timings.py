"""Timing caches: what kernels took, kept from one build to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgefer.atomic import check_writable
from edgefer.errors import EdgeferError
from edgefer.progress import announce


def read_timings(path: Path | None) -> bytes | None:
    """What ``path`` holds, read before anything is built; nothing where it is not there yet."""
    if path is None:
        return None
    check_writable(path)
    try:
        return path.read_bytes() if path.exists() else b""
    except OSError as cause:
        raise EdgeferError(f"the timing cache {path} cannot be read: {cause}", hint="choose another path") from cause


def set_timings(config: Any, known: bytes, path: Path | None) -> None:
    """Give the builder's ``config`` what :func:`read_timings` read; of another place, it is started anew and said."""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):  # None: not even a cache
        announce(f"note: {path} is of another TensorRT or another GPU, and is started anew")
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
