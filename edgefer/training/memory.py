"""A setting of the C library's allocator that training on a CPU gains a third of its speed from."""

from __future__ import annotations

import ctypes
import sys

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
