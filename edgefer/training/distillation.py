"""Distillation: learning from the answers of trained networks beside the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgefer.contract import Contract
from edgefer.errors import EdgeferError
from edgefer.models.deployable import Deployable
from edgefer.models.weights import load_network


class Teachers:
    """Trained networks that see the faces the learner sees, after augmentation.

    A step asks one of them, drawn at random, about the faces or about their mirror images. The gradient is linear in
    the answers, so over the steps the learner follows the mean of all teachers and both sides, at the cost of one.
    The loss is Hinton, Vinyals and Dean's (2015, https://arxiv.org/abs/1503.02531); that teacher and learner should see
    the same changed face is from Beyer et al. (2022, https://arxiv.org/abs/2106.05237).
    """

    def __init__(self, modules: Sequence[nn.Module], temperature: float) -> None:
        self.modules = [module.eval().requires_grad_(False) for module in modules]
        self.temperature = temperature

    @torch.no_grad()
    def answers(self, faces: Tensor) -> Tensor:
        """Probabilities at the temperature, float32 N×classes, of faces N×H×W×C from 0 to 255.

        Who is asked about which side is drawn from PyTorch's global generator.
        """
        chance = int(torch.randint(2 * len(self.modules), ()))
        seen = faces.flip(2) if chance % 2 else faces
        return functional.softmax(self.modules[chance // 2](seen).float() / self.temperature, dim=1)

    @torch.no_grad()
    def mean_answers(self, faces: Tensor) -> Tensor:
        """Probabilities at temperature 1, float32 N×classes: the mean of all teachers and both sides."""
        sides = (faces.to(torch.float32), faces.flip(2).to(torch.float32))
        said = [functional.softmax(module(side).float(), dim=1) for module in self.modules for side in sides]
        return torch.stack(said).mean(dim=0)

    def loss(self, logits: Tensor, answers: Tensor) -> Tensor:
        """``T² · KL(answers ‖ softmax(logits / T))``, a mean over faces; T² keeps gradients at the labels' scale."""
        learnt = functional.log_softmax(logits / self.temperature, dim=1)
        return self.temperature**2 * functional.kl_div(learnt, answers, reduction="batchmean")


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
        found = replace(found, mirrored=False)  # teachers are asked about both sides in any case
        module = Deployable(network, found).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        modules.append(module if found.face_shape == contract.face_shape else _Resized(module, found))
        hashes.append(weights.sha256)
        seen |= weights.seen
    return (Teachers(modules, temperature) if modules else None), tuple(hashes), seen


class _Resized(nn.Module):
    """A teacher of another face size than the learner's: faces are brought to its own.

    Bicubic, and nothing averaged: of 48×48 faces enlarged to 64×64 that restores most. resnet11 repeats 95 % of what it
    says to the faces themselves; after bilinear resizing it is 91 %, and 87 % with anti-aliasing.
    """

    def __init__(self, module: nn.Module, contract: Contract) -> None:
        super().__init__()
        self.module, self.size = module, (contract.height, contract.width)

    def forward(self, faces: Tensor) -> Tensor:
        """Faces N×H×W×C of any size, from 0 to 255, to logits N×classes."""
        own = functional.interpolate(faces.permute(0, 3, 1, 2).float(), self.size, mode="bicubic", align_corners=False)
        out: Tensor = self.module(own.clamp(0, 255).permute(0, 2, 3, 1))
        return out
