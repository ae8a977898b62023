"""How much memory is available."""

from __future__ import annotations

import os
from pathlib import Path

_RESERVED = 4 << 30


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that can be had without swapping.

    MemAvailable of proc(5), or where that is missing the free pages; less where the control group that this process is
    in gives less (Linux, Documentation/admin-guide/cgroup-v2.rst). Both are looked for below ``root``.
    """
    return min([_of_the_machine(root), *_of_the_group(root / "sys/fs/cgroup")])


def _of_the_machine(root: Path) -> int:
    try:
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_the_group(folder: Path) -> list[int]:
    """What its limit leaves; files in memory that nobody has open are given back first, and so do not count as used."""
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        told = (line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        idle = next((int(value) for name, value in told if name == "inactive_file"), 0)
    except OSError:  # version 1, or no control groups
        return []
    return [] if limit == "max" else [max(0, int(limit) - used + idle)]


def limit_memory(share: float = 0.5) -> None:
    """Let this process fail rather than take more than ``share`` of the memory that is available now (POSIX)."""
    try:
        import resource
    except ImportError:
        return
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    # address space is what can be limited: libraries reserve some gigabytes that they never touch
    limit = int(own + _RESERVED + share * available_memory())
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
