"""The network being trained, its average, its learning rate, and one step of each."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgefer.contract import Contract
from edgefer.errors import EdgeferError
from edgefer.models.deployable import Deployable
from edgefer.models.layers import last_layer
from edgefer.training.augment import augment, mix
from edgefer.training.config import TrainConfig
from edgefer.training.degrade import degrade
from edgefer.training.faces import PreparedFaces
from edgefer.training.losses import Teachers, distillation

STEPS = (0.5, 0.75)
"""Where the step schedule divides the rate by ten, as parts of the run (He et al. 2016 did about there)."""


def learning_rate(config: TrainConfig, done: float) -> float:
    """The rate when a part ``done`` of the run, 0…1, is behind: a linear warm-up, then a cosine to 0, or steps."""
    peak = config.lr or 0.0
    if done < config.warmup:
        return peak * done / config.warmup
    if config.schedule == "step":
        return peak * float(0.1 ** sum(done >= step for step in STEPS))
    return peak * 0.5 * (1 + math.cos(math.pi * (done - config.warmup) / (1 - config.warmup)))


CPU = torch.device("cpu")
_EVALUATION_BATCH = 256


@dataclass(frozen=True)
class ValScore:
    """Results of the averaged weights on ``val``: share of right answers and mean cross-entropy."""

    top1: float
    loss: float


class Learner:
    """A network, its optimiser and the exponential moving average of its weights.

    Convolution networks run in channels-last layout: mini_xception trains at 648 faces/s in it and at 319 without
    (batch 128, one core of an EPYC).
    """

    def __init__(
        self,
        network: nn.Module,
        contract: Contract,
        config: TrainConfig,
        weights: Tensor | None,
        teachers: Teachers | None = None,
        device: torch.device = CPU,
    ) -> None:
        self.config, self.teachers, self.device = config, teachers, device
        if teachers is not None:
            teachers.to(device)
        self.module = Deployable(network, contract).to(device)
        self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        self.average = copy.deepcopy(self.module).eval().requires_grad_(False)
        self.optimiser = _optimiser(network, config)
        weights = None if weights is None else weights.to(device)
        self.loss = nn.CrossEntropyLoss(weight=weights, label_smoothing=config.label_smoothing)
        self.steps = 0

    def step(
        self,
        faces: Tensor,
        labels: Tensor,
        lr: float,
        targets: Tensor | None = None,
        taught: Tensor | None = None,
        *,
        frozen: bool = False,
    ) -> tuple[float, int]:
        """Learn from one batch, uint8 N×H×W×C on the CPU; returns the loss and how many answers were right.

        ``targets`` are what to learn if not the labels, and ``taught`` a teacher's answers that were asked for before:
        probabilities, float32 N×classes. While ``frozen``, only the last layer moves, and batch norms keep their
        statistics.

        Raises:
            EdgeferError: the loss is not a finite number.
        """
        self.module.train(not frozen)
        for group in self.optimiser.param_groups:
            group["lr"] = lr * (self.config.head_lr if group["head"] else 1.0)
            for parameter in group["params"]:  # without a gradient nothing moves it, and nothing is spent on one
                parameter.requires_grad_(group["head"] or not frozen)
        faces, labels = on_device(faces, self.device), on_device(labels, self.device)
        targets, taught = (None if part is None else on_device(part, self.device) for part in (targets, taught))
        loss, logits = self.loss_of(faces, labels, targets, taught)
        value = float(loss.detach())
        self._require_finite("the training loss", value, self.steps + 1, lr)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # missing in torch's stubs
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.config.clip)
        self.optimiser.step()
        self.steps += 1
        self._update_average()
        return value, int((logits.detach().argmax(dim=1) == labels).sum())

    def loss_of(
        self, faces: Tensor, labels: Tensor, targets: Tensor | None, taught: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The loss of one batch that lies on the device, and the logits, float32 N×classes; see :meth:`step`."""
        given = self.config
        seen = degrade(augment(faces, given.augment, given.erasing, given.noise, given.crop), given.degrade)
        changed, others, share = mix(seen, given.mixup)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            logits, auxiliary = self._answer(changed)
            wanted = labels if targets is None else targets
            loss = self.loss(logits, wanted)
            if share < 1:
                loss = share * loss + (1 - share) * self.loss(logits, wanted[others])
            answers = None if taught is None else torch.lerp(taught[others], taught, share)
            if self.teachers is not None:
                answers = self.teachers.answers(changed)
            if answers is not None:
                loss = torch.lerp(loss, distillation(logits, answers, given.temperature), given.teacher_share)
            loss = loss + auxiliary
        return loss, logits

    def _answer(self, faces: Tensor) -> tuple[Tensor, Tensor | float]:
        """Logits, and the network's own term of the loss: 0 for almost all networks."""
        both: Callable[[Tensor], tuple[Tensor, Tensor]] | None
        both = getattr(self.module.network, "with_auxiliary_loss", None)
        if both is None:
            return self.module(faces).float(), 0.0
        logits, auxiliary = both(self.module.normalised(faces))
        return logits.float(), auxiliary.float()

    @torch.no_grad()
    def _update_average(self) -> None:
        """``average ← d·average + (1−d)·weights``; d grows from 0.2 so that the first weights are soon forgotten.

        Batch norms' running statistics are averaged like weights; counts are copied.
        """
        decay = min(self.config.ema_decay, (1 + self.steps) / (9 + self.steps))
        ours, theirs = self.average.state_dict(), self.module.state_dict()
        floats = [name for name, tensor in ours.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([ours[name] for name in floats], [theirs[name] for name in floats], 1 - decay)
        for name in ours.keys() - set(floats):
            ours[name].copy_(theirs[name])

    def _require_finite(self, what: str, value: float, step: int, lr: float) -> None:
        if not math.isfinite(value):
            raise EdgeferError(
                f"{what} became {value} at step {step} with learning rate {lr:.3g}",
                hint=f"try a third of the learning rate (lr={self.config.lr or lr:.3g} now), a longer warm-up, "
                f"or a smaller clip ({self.config.clip} now)",
            )

    @torch.inference_mode()
    def evaluate(self, val: PreparedFaces) -> ValScore:
        """Evaluate the averaged weights on every face of ``val``, in float32.

        Raises:
            EdgeferError: the loss is not a finite number, as after a last step whose gradient was none.
        """
        right, loss = 0, 0.0
        for start in range(0, len(val), _EVALUATION_BATCH):
            labels = on_device(val.labels[start : start + _EVALUATION_BATCH], self.device)
            logits = self.average(on_device(val.faces[start : start + _EVALUATION_BATCH], self.device))
            right += int((logits.argmax(dim=1) == labels).sum())
            loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
        self._require_finite("the loss on val", loss / len(val), self.steps, self.optimiser.param_groups[0]["lr"])
        return ValScore(right / len(val), loss / len(val))

    def averaged_weights(self) -> dict[str, Tensor]:
        """A copy of the averaged network's tensors, contiguous, on the CPU."""
        return {
            name: tensor.detach().to(CPU, copy=True, memory_format=torch.contiguous_format)
            for name, tensor in self.average.network.state_dict().items()
        }

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "network": self.module.network.state_dict(),
            "average": self.average.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "steps": self.steps,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to what :meth:`state` returned."""
        self.module.network.load_state_dict(state["network"])
        self.average.network.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.steps = state["steps"]


def on_device(part: Tensor, device: torch.device) -> Tensor:
    """``part`` of the CPU on the device; to a GPU from page-locked memory, while the CPU goes on."""
    if device.type != "cuda":
        return part.to(device)
    return part.pin_memory().to(device, non_blocking=True)


def _optimiser(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    head = network.get_submodule(last_layer(network))
    own = {id(p) for p in head.parameters()}
    groups = []
    for is_head in (False, True):
        mine = [p for p in network.parameters() if (id(p) in own) == is_head]
        groups += [
            {"params": [p for p in mine if p.ndim > 1], "weight_decay": config.weight_decay, "head": is_head},
            {"params": [p for p in mine if p.ndim <= 1], "weight_decay": 0.0, "head": is_head},
        ]
    lr = config.lr or 0.0
    if config.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True, fused=True)
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, lr=lr, fused=True)
