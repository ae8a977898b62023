"""Writing ONNX files: metadata, deterministic bytes, all or nothing."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from edgefer import __version__
from edgefer.contract import Contract
from edgefer.manifest import PRECISION_KEY


def stamp(model: onnx.ModelProto, contract: Contract, precision: str, extra: Mapping[str, str] | None = None) -> None:
    """Replace the model's metadata, in place, by the contract, the precision (``"fp32"``, ``"int8"``, …) and ``extra``.

    The producer becomes this edgefer. Keys are sorted, so that the same model gives the same bytes.
    """
    entries = {**contract.to_metadata(), PRECISION_KEY: precision, **(extra or {})}
    del model.metadata_props[:]
    for key in sorted(entries):
        model.metadata_props.add(key=key, value=entries[key])
    model.producer_name = "edgefer"
    model.producer_version = __version__


def serialise(model: onnx.ModelProto) -> bytes:
    """The model's bytes; equal models give equal bytes."""
    return bytes(model.SerializeToString(deterministic=True))
