"""A teacher's logits for faces and their horizontal flips in a file, to distil from without the teacher.

The file has no pixels: faces are known by their hashes. What a learner sees is augmented, what the teacher saw was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edgefer.atomic import atomic_path, check_writable, sha256_file
from edgefer.contract import Contract
from edgefer.errors import EdgeferError
from edgefer.intake import check_archive, reading
from edgefer.models.deployable import Deployable
from edgefer.models.weights import load_network
from edgefer.progress import progress
from edgefer.provenance import SEEN_DIGITS

if TYPE_CHECKING:
    from edgefer.data import FaceSet

SUFFIX = ".npz"
_FORMAT = "edgefer-teacher-logits-1"
_KINDS = {"hashes": ("u", 1), "logits": ("f", 3), "classes": ("U", 1), "seen": ("U", 1), "teacher_sha256": ("U", 0)}
"""Array → kind of its elements, and number of dimensions."""
_BATCH = 256
_HINT = "`edgefer teacher-logits WEIGHTS --data DATA -o FILE.npz` writes one"


@dataclass(frozen=True)
class TeacherLogits:
    """What :func:`write_teacher_logits` wrote.

    Attributes:
        path: the file.
        places: hash of a face → its row in ``logits``.
        logits: float16 N×2×classes: of each face and of its flip.
        sha256: hash of the file.
        seen: first digits of the hashes of faces that the teacher learnt from, or that are in the file.
    """

    path: Path
    places: dict[str, int]
    logits: Tensor
    sha256: str
    seen: frozenset[str]

    def answers(self, faces: FaceSet, temperature: float) -> Tensor:
        """Probabilities at the temperature, the mean of both sides: float32 N×classes, in the order of ``faces``.

        Raises:
            EdgeferError: some of the faces are not in the file.
        """
        hashes = faces.face_hashes()
        missing = sum(face not in self.places for face in hashes)
        if missing:
            raise EdgeferError(
                f"{self.path} has no logits for {missing:,} of the {len(hashes):,} faces of {faces.origin}",
                hint="it was made from other data, or with other --votes or --exclude; "
                "`edgefer teacher-logits` with this --data writes one that has them",
            )
        rows = self.logits[[self.places[face] for face in hashes]].float()
        return functional.softmax(rows / temperature, dim=2).mean(dim=1)


def write_teacher_logits(weights: Path, faces: FaceSet, output: Path) -> int:
    """Ask the network of a weights file about all ``faces`` and their flips; copies of a face are asked about once.

    Returns:
        The number of faces in the file.

    Raises:
        EdgeferError: the network has other classes than ``faces``; its logits are not finite, or too large for FP16;
            ``output`` is no .npz or cannot be written.
    """
    if output.suffix != SUFFIX:
        raise EdgeferError(
            f"a teacher's logits are written as .npz, not as {output.name}", hint=f"-o {output.with_suffix(SUFFIX)}"
        )
    check_writable(output)
    network, contract, loaded = load_network(weights)
    if contract.labels != faces.classes:
        raise EdgeferError(
            f"the teacher {weights} has the classes {', '.join(contract.labels)}; {faces.origin} has "
            f"{', '.join(faces.classes)}",
            hint="--votes gives FER+'s eight classes; --map renames or joins others",
        )
    hashes, first = np.unique(np.asarray(faces.face_hashes()), return_index=True)
    logits = _ask(Deployable(network, replace(contract, test_time_flip=False)).eval(), faces.subset(first), contract)
    if not np.isfinite(logits).all():
        raise EdgeferError(
            f"logits of the teacher {weights} are not finite, or too large for FP16, which ends at 65,504",
            hint="look at what `edgefer bench` says of it; a longer training does not need such logits",
        )
    others = sorted(loaded.seen - {face[:SEEN_DIGITS] for face in hashes})
    content = {
        "format": np.asarray(_FORMAT),
        "hashes": np.asarray([int(face, 16) for face in hashes], dtype=np.uint64),
        "logits": logits,
        "classes": np.asarray(contract.labels),
        "seen": np.asarray(others, dtype=f"<U{SEEN_DIGITS}"),
        "teacher_sha256": np.asarray(loaded.sha256),
    }
    with atomic_path(output) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **content)  # type: ignore[arg-type]  # numpy's stub takes the names for its own
    return len(hashes)


@torch.inference_mode()
def _ask(module: Deployable, faces: FaceSet, contract: Contract) -> NDArray[np.float16]:
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    said = []
    with progress("asking the teacher", len(faces)) as advance:
        for batch, _ in faces.batches(_BATCH, contract):
            shown = torch.from_numpy(batch.copy())
            said.append(torch.stack([module(shown), module(shown.flip(2))], dim=1).numpy())
            advance(len(batch))
    with np.errstate(over="ignore"):  # the caller refuses what is not finite
        return np.concatenate(said).astype(np.float16)


def load_teacher_logits(path: Path, classes: Sequence[str]) -> TeacherLogits:
    """Read logits for a learner of ``classes``.

    Raises:
        EdgeferError: no such file, damaged, something else, or a teacher of other classes.
    """
    content = _read(path)
    given = tuple(str(name) for name in content["classes"])
    if given != tuple(classes):
        raise EdgeferError(
            f"the teacher whose logits are in {path} has the classes {', '.join(given)}, and {', '.join(classes)} are "
            "to be learnt",
            hint="a teacher must have the learner's classes, in the same order",
        )
    hashes, logits = content["hashes"], content["logits"]
    if logits.shape != (len(hashes), 2, len(given)):
        shape = "×".join(map(str, logits.shape))
        raise EdgeferError(
            f"{path} has {len(hashes)} faces of {len(given)} classes, and logits of shape {shape}", hint=_HINT
        )
    places = {f"{value:016x}": row for row, value in enumerate(hashes.tolist())}
    seen = {face[:SEEN_DIGITS] for face in places} | {str(face) for face in content["seen"]}
    return TeacherLogits(path, places, torch.from_numpy(logits), sha256_file(path), frozenset(seen))


def _read(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise EdgeferError(f"there are no teacher's logits {path}", hint=f"check the path; {_HINT}")
    with reading(path, _HINT, "a teacher's logits"), np.load(path, allow_pickle=False) as archive:
        check_archive(archive.zip, path, _HINT)
        if "format" not in archive or str(archive["format"]) != _FORMAT:
            raise EdgeferError(f"{path} does not hold a teacher's logits", hint=_HINT)
        content = {key: archive[key] for key in _KINDS}
    for key, (kind, dimensions) in _KINDS.items():
        if content[key].dtype.kind != kind or content[key].ndim != dimensions:
            raise EdgeferError(f"{path}: its {key} are {content[key].dtype} {list(content[key].shape)}", hint=_HINT)
    if not np.isfinite(content["logits"]).all():
        raise EdgeferError(f"{path} has logits that are not finite", hint=_HINT)
    return content
