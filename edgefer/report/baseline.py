"""What engines are compared with: a network in PyTorch on some device, in further forms, an engine, or predictions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from edgefer.engines.classifier import Classifier
from edgefer.engines.load import TorchBaseline, in_form, load_baseline, runs_in_pytorch
from edgefer.errors import EdgeferError, require
from edgefer.measure.accuracy import Predictions
from edgefer.measure.evaluate import Opener
from edgefer.progress import announce
from edgefer.report.timing import BenchSettings, gpu_of
from edgefer.runtimes import PYTORCH

Baseline: TypeAlias = str | os.PathLike[str] | TorchBaseline | Classifier | Predictions
Opened: TypeAlias = tuple[Classifier, Opener | None]

ON_A_GPU = ("fp16", "graph")
"""Forms that a GPU's baseline also has if nothing is asked for: quick to make, and often faster than eager calls."""


@dataclass(frozen=True)
class OpenedBaseline:
    """The baseline, open.

    Attributes:
        reference: what answers and speed are compared with.
        others: the same network in further forms.
        settings: the settings, with the device that it runs on.
        gpu: CUDA's number of the GPU that it runs on; None where it runs on the CPU.
        warnings: what was asked for and is not there.
    """

    reference: Opened | Predictions
    others: tuple[Opened, ...]
    settings: BenchSettings
    gpu: int | None
    warnings: tuple[str, ...]


def open_baseline(
    baseline: Baseline, engines: Sequence[Classifier], settings: BenchSettings, opened: ExitStack
) -> OpenedBaseline:
    """Open the baseline, where the engines run unless ``settings`` say where.

    A bare state dict has no contract of its own: it gets the first engine's.

    Raises:
        EdgeferError: it cannot be loaded; the device cannot be used; a device or forms for what is not in PyTorch.
    """
    asked = _in_pytorch(baseline)
    if asked is None:
        given = {"--device": settings.device is not None, "--pytorch": bool(settings.pytorch)}
        for flag in (flag for flag, there in given.items() if there):
            raise EdgeferError(
                f"{flag} has no effect with a baseline that is no network in PyTorch",
                hint=f"leave it out, or name the network or its weights: --baseline {engines[0].contract.architecture}",
            )
        return OpenedBaseline(_open_other(baseline, settings.threads, opened), (), settings, None, ())
    warnings: list[str] = []
    asked = replace(asked, device=_device(settings.device or asked.device, engines, warnings))
    fell_back = bool(warnings)
    load = partial(load_baseline, threads=settings.threads, contract=engines[0].contract)
    reference = open_and_reopen(asked, load, opened)
    forms = settings.pytorch if settings.pytorch is not None else ON_A_GPU if asked.device != "cpu" else ()
    others = tuple(_further(reference[0], forms, partial(load, asked), opened, warnings))
    gpu = gpu_of(reference[0])
    warnings += () if fell_back else _elsewhere(gpu, engines)
    return OpenedBaseline(reference, others, replace(settings, device=asked.device), gpu, tuple(warnings))


def _elsewhere(gpu: int | None, engines: Sequence[Classifier]) -> Iterator[str]:
    """A sentence for each engine that runs on another device than the baseline, which was asked for."""
    for engine in engines:
        if gpu_of(engine) != gpu:
            yield (
                f"the baseline ran on {_place(gpu)} and {engine.name} on {_place(gpu_of(engine))}: "
                "their speed-up compares devices too"
            )


def _place(gpu: int | None) -> str:
    return "the CPU" if gpu is None else f"cuda:{gpu}"


def _in_pytorch(baseline: Baseline) -> TorchBaseline | None:
    if isinstance(baseline, TorchBaseline):
        return baseline if runs_in_pytorch(baseline.network) else None
    if isinstance(baseline, Classifier | Predictions) or not runs_in_pytorch(os.fspath(baseline)):
        return None
    return TorchBaseline(os.fspath(baseline))


def _device(asked: str | None, engines: Sequence[Classifier], warnings: list[str]) -> str:
    """The device that was asked for; else the first GPU that an engine runs on, if PyTorch can use it."""
    gpu = next((used for engine in engines if (used := gpu_of(engine)) is not None), None)
    if gpu is None and asked is None:
        return "cpu"
    require(PYTORCH.package, PYTORCH.extra, "a baseline in PyTorch")
    from edgefer.models.device import torch_device

    if asked is not None:
        return str(torch_device(asked))
    try:
        return str(torch_device(f"cuda:{gpu}"))
    except EdgeferError as fault:
        warnings.append(f"the baseline ran on the CPU, and an engine on a GPU: {fault.message}")
        announce(f"note: the baseline runs on the CPU: {fault}")
        return "cpu"


def _further(
    baseline: Classifier, forms: Sequence[str], reopen: Opener, opened: ExitStack, warnings: list[str]
) -> Iterator[Opened]:
    """The network in each of ``forms``; those that cannot run here are left out, and that is said."""
    for form in forms:
        try:
            yield opened.enter_context(in_form(baseline, form)), partial(_again, reopen, form)
        except EdgeferError as fault:
            warnings.append(f"the row '{form}' was left out: {fault.message}")
            announce(f"note: the row '{form}' is left out: {fault}")


def _again(reopen: Opener, form: str) -> Classifier:
    return in_form(reopen(), form)


def open_and_reopen(item: Any, load: Callable[..., Classifier], opened: ExitStack) -> Opened:
    """A classifier that was handed in stays its owner's; one that is loaded here is closed here, and can be again."""
    if isinstance(item, Classifier):
        return item, None
    reopen = partial(load, item)
    return opened.enter_context(reopen()), reopen


def _open_other(baseline: Baseline, threads: int, opened: ExitStack) -> Opened | Predictions:
    if isinstance(baseline, Predictions):
        return baseline
    if isinstance(baseline, str | os.PathLike) and Path(baseline).suffix == ".npz":
        return Predictions.load(baseline)
    return open_and_reopen(baseline, partial(load_baseline, threads=threads), opened)
