"""Targets beside the labels: the answers of trained networks (distillation) and FER+'s votes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgefer.contract import Contract
from edgefer.errors import EdgeferError
from edgefer.models.deployable import Deployable
from edgefer.models.weights import load_network
from edgefer.progress import announce, progress
from edgefer.training.faces import PreparedFaces

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgefer.data import FaceSet


class Teachers:
    """Trained networks that see the faces the learner sees, after augmentation.

    A step asks one of them, chosen at random, about the faces or their horizontal flips. The gradient is linear in the
    answers, so over the steps the learner follows the mean of all teachers and both sides, at the cost of one.
    The loss is Hinton, Vinyals and Dean's (2015, https://arxiv.org/abs/1503.02531); that teacher and learner should see
    the same changed face is from Beyer et al. (2022, https://arxiv.org/abs/2106.05237).
    """

    def __init__(self, modules: Sequence[nn.Module], temperature: float) -> None:
        self.modules = [module.eval().requires_grad_(False) for module in modules]
        self.temperature = temperature
        self.device = torch.device("cpu")

    def to(self, device: torch.device) -> None:
        """Move the networks there, where :meth:`answers` then gets its faces."""
        self.modules = [module.to(device) for module in self.modules]
        self.device = device

    @torch.no_grad()
    def answers(self, faces: Tensor) -> Tensor:
        """Probabilities at the temperature, float32 N×classes, of faces N×H×W×C from 0 to 255.

        Teacher and side are chosen by PyTorch's global generator.
        """
        chance = int(torch.randint(2 * len(self.modules), ()))
        seen = faces.flip(2) if chance % 2 else faces
        return functional.softmax(self.modules[chance // 2](seen).float() / self.temperature, dim=1)

    @torch.no_grad()
    def mean_answers(self, faces: Tensor) -> Tensor:
        """Probabilities at temperature 1, float32 N×classes: the mean of all teachers and both sides.

        Faces and probabilities lie on the CPU.
        """
        moved = faces.to(self.device)
        sides = (moved.to(torch.float32), moved.flip(2).to(torch.float32))
        said = [functional.softmax(module(side).float(), dim=1) for module in self.modules for side in sides]
        return torch.stack(said).mean(dim=0).cpu()


def distillation(logits: Tensor, answers: Tensor, temperature: float) -> Tensor:
    """``T² · KL(answers ‖ softmax(logits / T))``, a mean over faces; T² keeps gradients at the labels' scale."""
    learnt = functional.log_softmax(logits / temperature, dim=1)
    return temperature**2 * functional.kl_div(learnt, answers, reduction="batchmean")


def open_teachers(
    files: Sequence[Path], contract: Contract, temperature: float
) -> tuple[Teachers | None, tuple[str, ...], frozenset[str]]:
    """The teachers in weights files, or None for none; their SHA-256s; the faces that they are known to have seen.

    Raises:
        EdgeferError: a teacher has other classes, or colour where the learner's ``contract`` is grey, or the reverse.
    """
    modules, hashes, seen = [], [], frozenset[str]()
    for file in files:
        network, found, weights = load_network(file)
        if found.labels != contract.labels or found.channels != contract.channels:
            raise EdgeferError(
                f"the teacher {file} takes faces of {found.channels} channels and the classes "
                f"{', '.join(found.labels)}; {contract.architecture} learns {contract.channels} and "
                f"{', '.join(contract.labels)}",
                hint="a teacher must have the learner's channels and its classes, in the same order",
            )
        found = replace(found, test_time_flip=False)  # teachers are asked about both sides in any case
        module = Deployable(network, found).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        modules.append(module if found.face_shape == contract.face_shape else _Resized(module, found))
        hashes.append(weights.sha256)
        seen |= weights.seen
    return (Teachers(modules, temperature) if modules else None), tuple(hashes), seen


class _Resized(nn.Module):
    """A teacher of another face size than the learner's: faces are brought to its own.

    Bicubic, and nothing averaged: that restores the largest part of 48×48 faces enlarged to 64×64. resnet11 repeats
    95 % of its answers to the faces themselves; after bilinear resizing it is 91 %, and 87 % with anti-aliasing.
    """

    def __init__(self, module: nn.Module, contract: Contract) -> None:
        super().__init__()
        self.module, self.size = module, (contract.height, contract.width)

    def forward(self, faces: Tensor) -> Tensor:
        """Faces N×H×W×C of any size, from 0 to 255, to logits N×classes."""
        own = functional.interpolate(faces.permute(0, 3, 1, 2).float(), self.size, mode="bicubic", align_corners=False)
        out: Tensor = self.module(own.clamp(0, 255).permute(0, 2, 3, 1))
        return out


_ASKED_AT_ONCE = 256
_DECAY = 1e-4
_ITERATIONS = 300
_MIN_PROBABILITY = 1e-6  # before its logarithm


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

    def mixed_in(self, prepared: PreparedFaces, teachers: Teachers | Tensor | None) -> PreparedFaces:
        """The split's faces ``prepared`` with probabilities to learn: from the votes and, for the rest, the labels.

        ``teachers`` may be their answers at temperature 1, float32 N×classes.
        """
        votes = self.votes
        hard = functional.one_hot(self.labels, votes.shape[1]).float()
        if self.translating:
            asked = "" if teachers is None else " and the teachers' answers to them"
            announce(
                f"the majority of taggers chose the label of {100 * self.agreeing:.1f} % of the {len(hard):,} faces: "
                f"the votes{asked} are translated into labels"
            )
            answers = _answers(prepared.faces, teachers) if isinstance(teachers, Teachers) else teachers
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
    """Probability of each label, given the votes for a face and the teachers' answers.

    A multinomial logistic regression on these faces, of the votes, their roots, the class of their majority, and the
    logarithms of the teachers' answers. Without teachers, nothing but the votes tells faces apart; teachers that know
    the faces' labels by heart give the labels back.

    Args:
        votes: shares of the taggers, float32 N×classes.
        labels: int64 N.
        answers: the teachers' mean probabilities, float32 N×classes, or None.

    Returns:
        Probabilities, float32 N×classes.
    """
    winner = functional.one_hot(votes.argmax(dim=1), votes.shape[1])
    known = [votes, votes.sqrt(), winner] + ([] if answers is None else [answers.clamp_min(_MIN_PROBABILITY).log()])
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
    """The mean answers of all teachers at temperature 1 to faces and their horizontal flips."""
    said = []
    with progress("asking the teachers", len(faces)) as advance:
        for part in torch.split(faces, _ASKED_AT_ONCE):
            said.append(teachers.mean_answers(part))
            advance(len(part))
    return torch.cat(said)
