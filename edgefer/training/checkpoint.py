"""The state that a run goes on from: ``OUTPUT.state``, beside the weights, gone when the run succeeds."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from edgefer.atomic import write_bytes
from edgefer.errors import EdgeferError
from edgefer.training.config import TrainConfig

FORMAT = 2
_FREE_TO_DIFFER = ("threads", "checkpoint_seconds")


def state_path(output: Path) -> Path:
    """Where the state of the run lies that writes ``output``."""
    return output.with_name(output.name + ".state")


def identity(config: TrainConfig, model: str, classes: tuple[str, ...], fit: str, val: str) -> dict[str, Any]:
    """What must be the same for a run to go on exactly; ``fit`` and ``val`` are the fingerprints of the faces."""
    settings = {name: value for name, value in asdict(config).items() if name not in _FREE_TO_DIFFER}
    return {"model": model, "classes": list(classes), "fit faces": fit, "val faces": val, **settings}


def save_state(path: Path, identity: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write the state, whole or not at all."""
    content = io.BytesIO()  # torch's own writing to files turns a full disk into a RuntimeError
    torch.save({"format": FORMAT, "identity": dict(identity), "state": dict(state)}, content)
    write_bytes(path, content.getbuffer())


def load_state(path: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Read a state of the run that ``identity`` describes. Nothing in the file is executed.

    Raises:
        EdgeferError: the file is damaged, of another edgefer's format, or of another run.
    """
    fresh = "pass resume=False (--fresh) to start again, or write to another output"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found, state, version = content["identity"], content["state"], content["format"]
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as cause:
        reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        raise EdgeferError(f"the state of an earlier run, {path}, cannot be read: {reason}", hint=fresh) from cause
    if version != FORMAT:
        raise EdgeferError(f"{path} was written by another version of edgefer (format {version})", hint=fresh)
    differing = [
        f"{name} was {_short(found.get(name))} and is {_short(identity.get(name))}"
        for name in dict.fromkeys([*identity, *found])
        if found.get(name) != identity.get(name)
    ]
    if differing:
        raise EdgeferError(
            f"{path} is the state of another run: {'; '.join(differing)}",
            hint=f"give the same settings and data as before to go on; or {fresh}",
        )
    return dict(state)


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:12]}…"
