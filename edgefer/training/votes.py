"""What to learn where FER+'s taggers have voted: the label shares the target with their votes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from edgefer.errors import EdgeferError
from edgefer.progress import announce
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


def with_votes(split: FaceSet, prepared: Prepared, share: float, teachers: Teachers | None) -> tuple[Prepared, str]:
    """The faces ``prepared`` of ``split`` with probabilities to learn: ``share`` from the votes, the rest the labels'.

    Where the labels are the votes' majority (``--votes``), the votes count as they are. FER2013's own labels differ
    from it for a third of the faces: there the votes are translated first, see :func:`translated`.
    Also returns the SHA-256 of the votes, which tells runs apart.

    Raises:
        EdgeferError: ``split`` has no votes.
    """
    given = require_votes(split, share)
    votes, labels = torch.from_numpy(given), prepared.labels
    hard = functional.one_hot(labels, votes.shape[1]).float()
    if not split.voted:
        agreeing = float((votes.argmax(dim=1) == labels).float().mean())
        asked = "" if teachers is None else " and the teachers' answers to them"
        announce(
            f"most taggers chose the label of {100 * agreeing:.1f} % of the {len(labels):,} faces: the votes{asked} "
            "are translated into labels"
        )
        votes = translated(votes, labels, None if teachers is None else _answers(prepared.faces, teachers))
    targets = torch.lerp(hard, votes, share)
    return replace(prepared, targets=targets), hashlib.sha256(given.tobytes()).hexdigest()


def require_votes(split: FaceSet, share: float) -> NDArray[np.float32]:
    """The shares of the votes for the faces of ``split``, float32 N×classes.

    Raises:
        EdgeferError: it has none.
    """
    if split.soft is None:
        raise EdgeferError(
            f"{split.origin} has no FER+ votes, and vote_share is {share}",
            hint="pass --votes, use an npz with an array 'ferplus_votes', or a vote_share of 0",
        )
    return split.soft


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
    return torch.cat([teachers.mean_answers(part) for part in torch.split(faces, _ASKED_AT_ONCE)])
