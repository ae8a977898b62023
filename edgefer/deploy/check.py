"""Whether a bundle is as it was written, and whether an engine is one of its network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefer.atomic import sha256_file
from edgefer.contract import Contract
from edgefer.deploy.bundle import CONTRACT, GOLDEN, MANIFEST, MODEL, SCHEMA
from edgefer.engines.classifier import Classifier, relative_difference
from edgefer.engines.load import load_engine
from edgefer.errors import EdgeferError
from edgefer.golden import Golden
from edgefer.intake import read_json

_AGAIN = "copy it again, or make it again: `edgefer deploy bundle model.onnx -o DIR`"


@dataclass(frozen=True)
class Checked:
    """Result of a check.

    Attributes:
        files: number of files.
        distance: largest difference of an engine's logits from the float model's, relative to their scale.
        allowed: largest distance that passes.
    """

    files: int
    distance: float | None = None
    allowed: float | None = None


def check_bundle(folder: str | os.PathLike[str], engine: str | os.PathLike[str] | None = None) -> Checked:
    """Check the files of a bundle, and an engine that was built from it.

    Args:
        folder: the bundle.
        engine: loaded, and asked about the golden faces.

    Raises:
        EdgeferError: no bundle, a file that is missing or was changed; an engine of another network, or one whose
            answers are too far from the float model's.
    """
    bundle = Path(folder)
    manifest = _read(bundle / MANIFEST)
    try:
        listed = {str(name): str(entry["sha256"]) for name, entry in manifest["files"].items()}
        model_sha256 = str(manifest["model_sha256"])
    except (KeyError, TypeError, AttributeError) as cause:
        raise EdgeferError(f"{bundle / MANIFEST} is no manifest of a bundle: it lacks {cause}", hint=_AGAIN) from cause
    unlisted = [name for name in (MODEL, GOLDEN, CONTRACT) if name not in listed]
    if unlisted:
        raise EdgeferError(f"{bundle / MANIFEST} has no hash of {', '.join(unlisted)}", hint=_AGAIN)
    for name, sha256 in listed.items():
        if not (bundle / name).is_file():
            raise EdgeferError(f"{bundle} lacks {name}", hint=_AGAIN)
        if sha256_file(bundle / name) != sha256:
            raise EdgeferError(f"{bundle / name} is not the file that the bundle was made with", hint=_AGAIN)
    if engine is None:
        return Checked(len(listed))
    golden = Golden.from_dict(_read(bundle / GOLDEN))
    contract = Contract.from_dict(_read(bundle / CONTRACT), str(bundle / CONTRACT))
    with load_engine(engine) as classifier:
        _check_same_network(classifier, contract, model_sha256)
        distance = relative_difference(classifier.logits_of_all(golden.faces), golden.logits)
        allowed = max(golden.tolerance[part] for part in classifier.precision.split("+"))
    if not distance <= allowed:
        raise EdgeferError(
            f"{engine} does not answer as the network of {bundle}: its logits for the golden faces differ from the "
            f"float model's by {distance:.3g} of their scale, {allowed:.3g} is allowed",
            hint="this machine computes it differently: build it in --fp32 to see whether precision is the reason",
        )
    return Checked(len(listed), distance, allowed)


def _check_same_network(classifier: Classifier, contract: Contract, model_sha256: str) -> None:
    manifest = classifier.manifest
    what = ""
    if manifest is not None and manifest.model_sha256 != model_sha256:
        what = f"a model with the hash {manifest.model_sha256[:12]}…, the bundle's is {model_sha256[:12]}…"
    elif classifier.contract != contract:
        what = "a network with other labels, input, normalisation or test-time flip"
    if what:
        raise EdgeferError(f"{classifier.name} was built from {what}", hint="build it from the files of the bundle")


def _read(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        raise EdgeferError(f"{path.parent} is no bundle: there is no {path.name}", hint=_AGAIN)
    content = read_json(path, "file", _AGAIN)
    if not isinstance(content, dict):
        raise EdgeferError(f"{path} holds a {type(content).__name__}, not an object", hint=_AGAIN)
    if path.name == MANIFEST and content.get("schema") != SCHEMA:
        raise EdgeferError(
            f"{path} has the schema {content.get('schema')!r}, this edgefer reads {SCHEMA}",
            hint="install the edgefer that made the bundle, or make it again with this one",
        )
    return content
