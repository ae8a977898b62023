"""The training loop: epochs over ``fit``, the best average on ``val`` kept, exact resumption."""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

import edgefer
from edgefer.atomic import check_writable, write_bytes
from edgefer.contract import Contract
from edgefer.data import aligned
from edgefer.errors import EdgeferError
from edgefer.interrupts import deferred_interrupt
from edgefer.models.device import first_line, torch_device
from edgefer.models.weights import save_weights
from edgefer.progress import announce, console, progress
from edgefer.training.beginning import (
    Beginning,
    OwnNetwork,
    begin,
    contract_to_learn,
    own_contract,
    refuse_other_classes,
    tell_of_seen,
)
from edgefer.training.config import TrainConfig
from edgefer.training.faces import (
    PreparedFaces,
    class_weights,
    keep_freed_memory,
    prepare_split,
    refuse_missing_classes,
)
from edgefer.training.learner import Learner, learning_rate
from edgefer.training.losses import Opinions, Teachers, require_votes
from edgefer.training.teacher_logits import TeacherLogits

if TYPE_CHECKING:
    from edgefer.data import FaceSet


OnEpoch: TypeAlias = Callable[[Sequence[Mapping[str, float]]], object]

_ANNOUNCE_SECONDS, _FIRST_SECONDS = 30.0, 5.0
"""Where no bar is drawn, a long epoch says how it goes after the second, and then each time after the first."""
_EPOCHS_APART = 1.0
"""Seconds between the lines of epochs, where an epoch takes less."""
_SAVING_SHARE = 0.05
"""Maximum share of the time that goes into writing states."""
_STATE_FORMAT = 2
_FREE_TO_DIFFER = ("threads", "checkpoint_seconds", "device")
"""Settings that a resumed run may change."""


@dataclass(frozen=True)
class TrainResult:
    """Result of a run; ``curve`` has for each epoch: epoch, loss, top1 (augmented), val_loss, val_top1, lr."""

    best_val_top1: float
    best_epoch: int
    epochs: int
    curve: list[dict[str, float]]
    seconds: float
    output: Path


def train(
    dataset: FaceSet,
    model: str | OwnNetwork,
    output: Path,
    config: TrainConfig,
    *,
    init: Path | None = None,
    teachers: Sequence[Path] = (),
    resume: bool = True,
    on_epoch: OnEpoch | None = None,
) -> TrainResult:
    """Train a network ``model``, fresh or from the weights ``init``, on ``fit``.

    The weights that are best on ``val`` are written to ``output``.
    Nothing else of ``dataset`` is read. ``output`` is a safetensors file, FP32, with the contract, replaced whenever a
    better average was found; ``output.state`` holds what a run needs to go on after Ctrl-C or worse.

    Args:
        dataset: faces whose ``fit`` part has every class.
        model: a network of the zoo, or one's own, whose contract has the classes of ``dataset``, in any order.
        output: the weights, ``.safetensors``.
        config: settings; with the same ones a run on a CPU repeats bit for bit, unless ``max_seconds`` is given.
        init: weights of the same network and classes to start from: fine-tuning, on faces of their size.
        teachers: weights of networks of the same classes to learn from too: distillation. Or one file of
            :func:`edgefer.training.teacher_logits.write_teacher_logits` that has the fit faces.
        resume: go on from ``output.state`` where it exists; otherwise it is deleted.
        on_epoch: called after every epoch with the curve so far.

    Raises:
        EdgeferError: no such network, or not of ``config.size``; ``output`` cannot be written; a class without training
            faces; a teacher's logits do not cover them; a state of another run; the loss is not finite.
        KeyboardInterrupt: Ctrl-C, after the state was saved.
    """
    dataset.require_labels("training")
    if isinstance(model, OwnNetwork):
        contract = own_contract(model, config.size)
        dataset = aligned(dataset, contract.labels)
        refuse_other_classes(dataset, contract)
        config = config.resolved(contract.architecture, fine_tuned=init is not None)
    else:
        contract = contract_to_learn(model, dataset.classes, config.size, init)
        config = replace(config.resolved(model, fine_tuned=init is not None), size=contract.height)
    if config.vote_share:
        require_votes(dataset, config.vote_share)
    if output.suffix != ".safetensors":
        raise EdgeferError(
            f"weights are written as .safetensors, not as {output.name}",
            hint=f"-o {output.with_suffix('.safetensors')}",
        )
    check_writable(output)
    device = torch_device(config.device)
    config = replace(config, precision=config.precision or _usual_precision(device))
    keep_freed_memory()
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[] if device.index is None else [device.index]):
        try:
            torch.set_num_threads(config.threads or threads)
            torch.manual_seed(config.seed)
            start = begin(contract, init, teachers, config.temperature)
            run = _Run(dataset.split("fit"), dataset.split("val"), contract, output, config, start)
            run.on_epoch = on_epoch
            return run.go(resume)
        except torch.OutOfMemoryError as cause:
            raise EdgeferError(
                f"the memory of {device} ran out: {first_line(cause)}",
                hint="a smaller --batch, or stop what else uses the GPU; the state that was saved goes on",
            ) from cause
        finally:
            torch.set_num_threads(threads)


def _usual_precision(device: torch.device) -> str:
    """BF16 where a GPU multiplies in it (from Ampere on), else FP32."""
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if fast else "fp32"


class _Run:
    """One run: where it stands, and how it goes on."""

    def __init__(
        self, fit: FaceSet, val: FaceSet, contract: Contract, output: Path, config: TrainConfig, start: Beginning
    ) -> None:
        self.config, self.contract, self.output = config, contract, output
        refuse_missing_classes(fit)
        tell_of_seen(start.seen, val)
        self.fit: PreparedFaces = prepare_split(fit, contract)
        self.val: PreparedFaces = prepare_split(val, contract)
        self.batch = min(config.batch_size or 1, len(self.fit))
        self.steps_an_epoch = len(self.fit) // self.batch
        self.met = {"trained": {*fit.face_hashes(), *start.seen}, "chose": {*val.face_hashes(), *start.chose}}
        prints, began = (fit.fingerprint(), val.fingerprint()), dict(start.lineage)
        self.opinions = Opinions(fit, config.vote_share) if config.vote_share else None
        began |= self.opinions.lineage if self.opinions else {}
        same = {name: value for name, value in asdict(config).items() if name not in _FREE_TO_DIFFER}
        faces = {"fit faces": prints[0], "val faces": prints[1]}
        self.identity = {"model": contract.architecture, "classes": list(contract.labels), **faces, **same, **began}
        self.lineage = {
            **contract.lineage,
            "fit_sha256": prints[0],
            "trained_on": PurePath(fit.origin).name,
            "seed": str(config.seed),
            "edgefer": edgefer.__version__,
            **began,
        }
        weights = class_weights(self.fit.labels, len(contract.labels), config.class_weights)
        teachers = start.teachers
        self.translating_with: Teachers | torch.Tensor | None
        if isinstance(teachers, TeacherLogits):
            self.fit = replace(self.fit, taught=teachers.answers(fit, config.temperature))
            self.translating_with, teachers = teachers.answers(fit, 1.0), None
        else:
            self.translating_with = teachers
        self.device = torch_device(config.device)
        self.learner = Learner(start.network, contract, config, weights, teachers, self.device)
        self.epoch, self.step = 0, 0  # epochs finished; steps done in the one under way
        self.order = torch.empty(0, dtype=torch.int64)
        self.loss_sum, self.right = 0.0, 0
        self.curve: list[dict[str, float]] = []
        self.best: dict[str, Any] = {}
        self.lr = 0.0
        self.earlier_seconds, self.started = 0.0, time.monotonic()
        self.saved_at, self.saving_took = time.monotonic(), 0.0
        self.told_at = time.monotonic() + _FIRST_SECONDS - _ANNOUNCE_SECONDS
        self.epoch_told_at = self.told_at
        self.shown, self.faces_seen = 0.0, 0
        self.on_epoch: OnEpoch | None = None

    def go(self, resume: bool) -> TrainResult:
        """Run to the end, from the state if there is one and ``resume``."""
        path = state_path(self.output)
        if resume and path.exists():
            self.restore(load_state(path, self.identity))
            announce(f"continuing from {path} at epoch {self.epoch + 1}, step {self.step + 1}")
        else:
            path.unlink(missing_ok=True)
            if self.opinions:
                self.fit = self.opinions.mixed_in(self.fit, self.translating_with)
        total = self.config.max_seconds or self.config.epochs * self.steps_an_epoch
        with (
            deferred_interrupt() as asked,
            progress(f"training {self.contract.architecture}", total) as advance,
        ):
            self.advance = advance
            self.show_progress()
            while not self.finished():
                self.run_epoch(asked)
        if not self.best:
            raise EdgeferError(
                f"no epoch could be evaluated: max_seconds={self.config.max_seconds} is over", hint="allow more seconds"
            )
        self.write_best()
        path.unlink(missing_ok=True)
        return TrainResult(self.best["top1"], self.best["epoch"], self.epoch, self.curve, self.seconds(), self.output)

    def show_progress(self) -> None:
        """Move the bar to where the run stands: seconds where they end it, steps otherwise."""
        steps = self.epoch * self.steps_an_epoch + self.step
        now = steps if self.config.max_seconds is None else min(self.seconds(), self.config.max_seconds)
        loss = f"loss {self.loss_sum / self.step:.3f}" if self.step else ""
        self.advance(now - self.shown, ", ".join(filter(None, (loss, self.pace(), self.note()))))
        self.shown = now
        if (
            not console.is_terminal
            and 0 < self.step < self.steps_an_epoch  # the end of an epoch has a line of its own
            and self.faces_seen
            and time.monotonic() - self.told_at > _ANNOUNCE_SECONDS
        ):
            self.told_at = time.monotonic()
            part = 100 * self.step / self.steps_an_epoch
            announce(f"epoch {self.epoch + 1}, {part:.0f} % of it: {loss}, {self.pace()}{self.time_left()}")

    def pace(self) -> str:
        """How many faces are learnt from per second, evaluation included; empty before the first step."""
        return f"{self.faces_seen / (time.monotonic() - self.started):,.0f} faces/s" if self.faces_seen else ""

    def time_left(self) -> str:
        """The time that is left at this pace, for the end of a line; empty where nothing is, or no step was done."""
        return "" if self.finished() or not self.faces_seen else f", about {_duration(self.remaining())} left"

    def remaining(self) -> float:
        """The seconds that are left at this pace; ``patience`` may end a run before."""
        if self.config.max_seconds is not None:
            return max(0.0, self.config.max_seconds - self.seconds())
        steps = (self.config.epochs - self.epoch) * self.steps_an_epoch - self.step
        return steps * self.batch * (time.monotonic() - self.started) / self.faces_seen

    def run_epoch(self, asked: Callable[[], bool]) -> None:
        """Finish the epoch under way, then evaluate; Ctrl-C is heeded after each step."""
        if self.step == 0:
            self.order = self.new_order()
            self.loss_sum, self.right = 0.0, 0
        while self.step < self.steps_an_epoch and not self.out_of_time():
            rows = self.order[self.step * self.batch : (self.step + 1) * self.batch]
            done = self.done()
            self.lr, frozen = learning_rate(self.config, done), done < self.config.frozen
            faces, labels, wanted = self.fit.faces[rows], self.fit.labels[rows], self.fit.targets[rows]
            taught = None if self.fit.taught is None else self.fit.taught[rows]
            loss, right = self.learner.step(faces, labels, self.lr, wanted, taught, frozen=frozen)
            self.loss_sum, self.right, self.step = self.loss_sum + loss, self.right + right, self.step + 1
            self.faces_seen += self.batch
            self.show_progress()
            if asked():
                self.save()
                raise KeyboardInterrupt
            self.save_if_due()
        if self.step:  # else the time ran out before the epoch's first step
            self.end_epoch()

    def end_epoch(self) -> None:
        """Evaluate the average, keep it if it is the best, and add to the curve."""
        reached = self.learner.evaluate(self.val)
        steps, self.step = self.step, 0
        self.epoch += 1
        self.curve.append(
            {
                "epoch": self.epoch,
                "loss": self.loss_sum / steps,
                "top1": self.right / (steps * self.batch),
                "val_loss": reached.loss,
                "val_top1": reached.top1,
                "lr": self.lr,
            }
        )
        if not self.best or self.merit(reached.top1, reached.loss) > self.merit(self.best["top1"], self.best["loss"]):
            weights = self.learner.averaged_weights()
            self.best = {"epoch": self.epoch, "top1": reached.top1, "loss": reached.loss, "weights": weights}
            self.write_best()
        if self.finished() or self.epoch == 1 or time.monotonic() - self.epoch_told_at >= _EPOCHS_APART:
            self.epoch_told_at = self.told_at = time.monotonic()
            told = ", ".join(filter(None, (f"loss {self.curve[-1]['loss']:.4f}", self.note(), self.pace())))
            announce(f"epoch {self.epoch}: {told}, {self.seconds():.0f} s gone{self.time_left()}")
        if self.on_epoch is not None:
            self.on_epoch(self.curve)

    def merit(self, top1: float, loss: float) -> tuple[float, float]:
        """The key by which epochs are compared: larger is better."""
        return (-loss, top1) if self.config.keep == "loss" else (top1, -loss)

    def new_order(self) -> torch.Tensor:
        """Indices of the faces of an epoch, int64."""
        if self.config.sampling == "shuffled":
            return torch.randperm(len(self.fit))
        rarity = 1.0 / torch.bincount(self.fit.labels).to(torch.float64)
        return torch.multinomial(rarity[self.fit.labels], len(self.fit), replacement=True)

    def done(self) -> float:
        """The larger of the parts of steps and of time that are gone, the step under way included; 0…1."""
        done = (self.epoch * self.steps_an_epoch + self.step + 1) / (self.config.epochs * self.steps_an_epoch + 1)
        if self.config.max_seconds is not None:
            done = max(done, min(1.0, self.seconds() / self.config.max_seconds))
        return done

    def seconds(self) -> float:
        """Duration of the whole run, earlier parts included."""
        return self.earlier_seconds + time.monotonic() - self.started

    def out_of_time(self) -> bool:
        """Whether ``max_seconds`` are over."""
        return self.config.max_seconds is not None and self.seconds() >= self.config.max_seconds

    def finished(self) -> bool:
        """Whether all epochs are done, time is over, or patience is."""
        stale = self.epoch - self.best["epoch"] if self.best else 0
        patience = self.config.patience
        return self.epoch >= self.config.epochs or self.out_of_time() or (patience is not None and stale >= patience)

    def note(self) -> str:
        """The last and the best top-1 on ``val``."""
        if not self.curve:
            return ""
        return f"val top-1 {100 * self.curve[-1]['val_top1']:.2f} % (best {100 * self.best['top1']:.2f} %)"

    def write_best(self) -> None:
        """The best average so far, under the final name."""
        lineage = {
            **self.lineage,
            "epochs": str(self.epoch),
            "best_epoch": str(self.best["epoch"]),
            "val_top1": f"{self.best['top1']:.6f}",
        }
        save_weights(self.output, self.best["weights"], replace(self.contract, lineage=lineage), self.met)

    def save_if_due(self) -> None:
        """Save the state every ``checkpoint_seconds``, less often where writing it takes long."""
        since = time.monotonic() - self.saved_at
        if since >= max(self.config.checkpoint_seconds, self.saving_took / _SAVING_SHARE):
            self.save()

    def save(self) -> None:
        """Write all that the next step depends on."""
        begun = time.monotonic()
        own = ("epoch", "step", "order", "loss_sum", "right", "curve", "best", "lr")
        state = {name: getattr(self, name) for name in own}
        state |= {"learner": self.learner.state(), "seconds": self.seconds(), **random_states(self.device)}
        state["targets"] = self.fit.targets  # teachers take minutes to answer about all faces
        save_state(state_path(self.output), self.identity, state)
        self.saved_at = time.monotonic()
        self.saving_took = self.saved_at - begun

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what :meth:`save` wrote."""
        self.learner.restore(state.pop("learner"))
        set_random_states(state.pop("rng"), state.pop("gpu_rng", None), self.device)
        self.fit = replace(self.fit, targets=state.pop("targets"))
        self.earlier_seconds, self.started = state.pop("seconds"), time.monotonic()
        for name, value in state.items():
            setattr(self, name, value)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def state_path(output: Path) -> Path:
    """Where the state of the run lies that writes ``output``."""
    return output.with_name(output.name + ".state")


def random_states(device: torch.device) -> dict[str, torch.Tensor | None]:
    """States of the generators that a run on ``device`` samples from: ``rng``, the CPU's, and ``gpu_rng``, if any."""
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"rng": torch.get_rng_state(), "gpu_rng": on_gpu}


def set_random_states(rng: torch.Tensor, gpu_rng: torch.Tensor | None, device: torch.device) -> None:
    """Go back to what :func:`random_states` gave; a run that began on another kind of device is told of."""
    torch.set_rng_state(rng)
    if (gpu_rng is None) != (device.type == "cpu"):
        announce(f"note: the run began on another device than {device}: it goes on with other random numbers")
    elif gpu_rng is not None:
        torch.cuda.set_rng_state(gpu_rng, device)


def save_state(path: Path, identity: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write the state, whole or not at all."""
    content = io.BytesIO()  # torch's own writing to files turns a full disk into a RuntimeError
    torch.save({"format": _STATE_FORMAT, "identity": dict(identity), "state": dict(state)}, content)
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
    if version != _STATE_FORMAT:
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
