"""Memory of a run: where its faces lie, and a setting of the C library's allocator that gains a third of the speed."""

from __future__ import annotations

import ctypes
import math
import os
import sys
import tempfile

import numpy as np
import torch
from torch import Tensor

from edgefer.errors import EdgeferError
from edgefer.memory import available_memory
from edgefer.progress import announce

MOST_SHARE = 0.5
"""Faces take at most this share of the memory that is free; more of them lie in a temporary file."""

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks for reuse, for the rest of the process; other C libraries are left alone.

    An activation map of several MB is otherwise mapped, zeroed page by page and unmapped again at every step:
    mini_xception trained at 566 faces/s before and 782 after (batch 64, one core of an EPYC). The constants are
    those of malloc.h; see mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        library.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def room_for(shape: tuple[int, ...]) -> Tensor:
    """An uninitialised uint8 tensor, in memory or, where that is too small for it, mapped from a temporary file.

    The file has no name, so that it is gone with the process, however that ends.

    Raises:
        EdgeferError: neither memory nor disk has the room.
    """
    size = math.prod(shape)
    if size <= MOST_SHARE * available_memory():
        return torch.empty(shape, dtype=torch.uint8)
    folder = tempfile.gettempdir()
    announce(f"note: {size / 1e9:.1f} GB of faces are more than memory has room for: they lie in a file in {folder}")
    try:
        file = tempfile.TemporaryFile(prefix="edgefer-")  # noqa: SIM115 - the mapping keeps it
        os.posix_fallocate(file.fileno(), 0, size)  # a sparse file would kill the process when the disk is full
    except OSError as cause:
        raise EdgeferError(
            f"there is no room for {size / 1e9:.1f} GB of faces: {cause.strerror} in {folder}",
            hint="set TMPDIR to a folder on a larger disk, or train on fewer faces",
        ) from cause
    return torch.from_numpy(np.memmap(file, dtype=np.uint8, mode="r+", shape=shape))
