"""Refusing an option where a version lacks what it needs, with the versions that have it."""

from __future__ import annotations

from edgefer.engines.tensorrt.compat import DLA_SOURCE, JETPACKS, NEVER, SPANS, Target
from edgefer.errors import EdgeferError


def need(target: Target, capability: str, option: str) -> None:
    """Refuse ``option`` where ``target`` lacks ``capability``, naming the versions that have it.

    Raises:
        EdgeferError: it does.
    """
    if getattr(target.has, capability):
        return
    span = SPANS[capability]
    where = "TensorRT-RTX" if span.since == NEVER else span.versions + (", and TensorRT-RTX" if span.rtx else "")
    others = [name for name, version in JETPACKS.items() if span.covers(version)] if span.jetpack else []
    hint = f"leave {option} out, or build for {where}"
    raise EdgeferError(
        f"{option}: {target.title} has no {span.what} ({span.source})",
        hint=hint + (f" (--for {others[-1]})" if others and not target.rtx else ""),
    )


def need_dla(target: Target) -> None:
    """Refuse ``--dla`` where the version or the chip has none.

    Raises:
        EdgeferError: TensorRT 10.8 up to 11.4.0, TensorRT-RTX, and JetPack 7's before 7.2.2.
    """
    if target.has_dla:
        return
    raise EdgeferError(
        f"--dla: {target.title} does not run networks on DLA ({DLA_SOURCE})",
        hint="TensorRT up to 10.7 does (--for jetpack6), and 11.4.1 on AGX Orin from JetPack 7.2.2 (--for 11.4.1); "
        "Thor has no DLA",
    )
