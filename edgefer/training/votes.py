"""What to learn where FER+'s taggers have voted: the label shares the target with their votes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from edgefer.errors import EdgeferError
from edgefer.progress import announce, progress
from edgefer.training.distillation import Teachers
from edgefer.training.faces_in_memory import Prepared

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgefer.data import FaceSet

_ASKED_AT_ONCE = 256
_DECAY = 1e-4
_ITERATIONS = 300
_LEAST = 1e-6
"""Of a probability, before its logarithm."""


class Opinions:
    """FER+'s votes for the faces of a split.

    Where the labels are the votes' majority (``--votes``, or an npz of such labels), the votes count as they are.
    FER2013's own labels differ from it for a third of the faces: there votes are translated, see :func:`translated`.

    Attributes:
        lineage: the SHA-256 of the votes, and how they count.
    """

    def __init__(self, split: FaceSet, share: float) -> None:
        """``share`` of a target is the votes'.

        Raises:
            EdgeferError: ``split`` has no votes.
        """
        given = require_votes(split, share)
        self.votes, self.labels, self.share = torch.from_numpy(given), torch.tensor(split.labels.tolist()), share
        chosen = self.votes.gather(1, self.labels[:, None])[:, 0] == self.votes.amax(dim=1)
        self.agreeing = float(chosen.double().mean())
        self.translating = not split.voted and self.agreeing < 1.0
        how = "translated into labels" if self.translating else "as they are"
        self.lineage = {"votes_sha256": hashlib.sha256(given.tobytes()).hexdigest(), "votes": how}

    def mixed_in(self, prepared: Prepared, teachers: Teachers | None) -> Prepared:
        """The split's faces ``prepared`` with probabilities to learn: from the votes and, for the rest, the labels."""
        votes = self.votes
        hard = functional.one_hot(self.labels, votes.shape[1]).float()
        if self.translating:
            asked = "" if teachers is None else " and the teachers' answers to them"
            announce(
                f"most taggers chose the label of {100 * self.agreeing:.1f} % of the {len(hard):,} faces: the votes"
                f"{asked} are translated into labels"
            )
            answers = None if teachers is None else _answers(prepared.faces, teachers)
            votes = translated(votes, self.labels, answers)
        return replace(prepared, targets=torch.lerp(hard, votes, self.share))


def require_votes(faces: FaceSet, share: float) -> NDArray[np.float32]:
    """The shares of the votes for ``faces``, float32 N×classes.

    Raises:
        EdgeferError: it has none.
    """
    if faces.soft is None:
        raise EdgeferError(
            f"{faces.origin} has no FER+ votes, and vote_share is {share}",
            hint="--votes fer2013new.csv brings them, with their eight classes; with --own-labels the labels stay the "
            "data's. An npz may have them in an array 'ferplus_votes'",
        )
    return faces.soft


def translated(votes: Tensor, labels: Tensor, answers: Tensor | None) -> Tensor:
    """How probable each label is, given the votes for a face and what teachers say of it.

    A multinomial logistic regression on these faces, of the votes, their roots, the class with most of them, and the
    logarithms of the teachers' answers. Without teachers, nothing but the votes tells faces apart; teachers that know
    the faces' labels by heart give the labels back.

    Args:
        votes: shares of the taggers, float32 N×classes.
        labels: int64 N.
        answers: the teachers' mean probabilities, float32 N×classes, or None.

    Returns:
        Probabilities, float32 N×classes.
    """
    most = functional.one_hot(votes.argmax(dim=1), votes.shape[1])
    known = [votes, votes.sqrt(), most] + ([] if answers is None else [answers.clamp_min(_LEAST).log()])
    x = torch.cat([part.double() for part in known], dim=1)
    weight = torch.zeros(x.shape[1], votes.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(votes.shape[1], dtype=torch.float64, requires_grad=True)
    fitting = torch.optim.LBFGS([weight, bias], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        fitting.zero_grad()
        value = functional.cross_entropy(x @ weight + bias, labels) + _DECAY * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]  # missing in torch's stubs
        return value

    fitting.step(loss)  # type: ignore[no-untyped-call]
    return (x @ weight + bias).detach().softmax(dim=1).float()


def _answers(faces: Tensor, teachers: Teachers) -> Tensor:
    """What all teachers say on average, at temperature 1, of faces as they are and of their mirror images."""
    said = []
    with progress("asking the teachers", len(faces)) as advance:
        for part in torch.split(faces, _ASKED_AT_ONCE):
            said.append(teachers.mean_answers(part))
            advance(len(part))
    return torch.cat(said)
