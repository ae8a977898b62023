"""Instructions of this CPU that decide how fast, and how exactly, low precisions run."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path

X86 = ("sse4_1", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16")
X86_TILES = ("avx512_fp16", "amx_int8", "amx_bf16")
ARM = ("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2")
"""Names as Linux prints them in /proc/cpuinfo (``flags`` on x86, ``Features`` on aarch64)."""

VNNI = frozenset({"avx_vnni", "avx512_vnni", "amx_int8"})
"""x86 instructions that add uint8×int8 products in 32 bits, without the 16-bit step that saturates."""


def instruction_set(cpuinfo: str | None = None, machine: str | None = None) -> tuple[str, ...]:
    """The known features of this CPU, in a fixed order; empty where the system does not tell (not Linux).

    Args:
        cpuinfo: the text of /proc/cpuinfo; read if None.
        machine: that of ``platform.machine()``, which is called if None.
    """
    text = _read_cpuinfo() if cpuinfo is None else cpuinfo
    kind = (platform.machine() if machine is None else machine).lower()
    key, known = ("features", ARM) if kind in ("aarch64", "arm64") else ("flags", X86 + X86_TILES)
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() == key:
            present = set(value.split())
            return tuple(feature for feature in known if feature in present)
    return ()


def saturates(instructions: Iterable[str]) -> bool:
    """Whether uint8×int8 kernels saturate on this CPU unless weights keep to 7 bits: x86 without VNNI.

    https://github.com/microsoft/onnxruntime/issues/14642
    """
    present = set(instructions)
    return bool(present & set(X86)) and not present & VNNI


def _read_cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
