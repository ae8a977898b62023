#!/usr/bin/env python3
"""Faces per second of `edgefer train` beside the loop of the tutorials: `python benchmarks/training.py`, two minutes.

The other loop is what field tutorials write: a Dataset that changes PIL images one by one (flip, rotation, shift,
zoom, brightness, contrast: the operations that torchvision calls), a DataLoader, Adam, contiguous tensors, FP32. Both
train the same network on the same synthetic faces with the same batch size and number of threads, and take turns. So
the DataLoader has no worker processes: they would change faces during the other loop's turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import torch
from common import Watch, options, run
from torch import nn

from edgefer.contract import Contract
from edgefer.data import synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.engines.cpu import instruction_set
from edgefer.errors import require
from edgefer.faces import prepare_batch
from edgefer.models import create, default_contract, names
from edgefer.progress import announce
from edgefer.runtimes import BF16
from edgefer.training import TrainConfig
from edgefer.training.augment import augment
from edgefer.training.learner import Learner

FACES, BATCH = 2048, 64


@click.command()
@options("training")
@click.option("--model", default="mini_xception", show_default=True, type=click.Choice(names()))
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
def main(quick: bool, model: str, threads: int, output: Path | None) -> None:
    """Compare both loops, and say what share of a step is the data's."""
    rounds = 2 if quick else 25
    result = run("training", quick, output, lambda watch: measure(model, threads, rounds, watch))
    for name, row in result["rows"].items():
        announce(f"{name}: {row['faces_per_s']:.0f} faces/s, {row['over_tutorial']:.2f}× the tutorials' loop")
    announce(f"data: {100 * result['data_share']:.1f} % of a step of FP32")


def measure(model: str, threads: int, rounds: int, watch: Watch) -> dict[str, Any]:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    images, labels = synthetic_faces(FACES, seed=1)
    loops = {"tutorial": _tutorial(model, images, labels), "edgefer fp32": _ours(model, images, labels, "fp32")}
    if {*BF16} & {*instruction_set()}:
        loops["edgefer bf16"] = _ours(model, images, labels, "bf16")
    taken: dict[str, list[float]] = {name: [] for name in loops}
    steps = 4
    with watch.over("the run"):
        for round_ in range(rounds + 1):
            for name, step in loops.items():
                begun = time.perf_counter()
                for _ in range(steps):
                    step()
                if round_:  # the first warms up
                    taken[name].append((time.perf_counter() - begun) / steps)
        fitted = prepare_batch(images, default_contract(model, FER2013))
        share = _data_share(np.ascontiguousarray(fitted), median(taken["edgefer fp32"]), rounds)
    first = np.asarray(taken["tutorial"])
    rows = {
        name: {
            "faces_per_s": BATCH / median(seconds),
            "over_tutorial": float(np.median(first / np.asarray(seconds))),
        }
        for name, seconds in taken.items()
    }
    return {"model": model, "threads": threads, "batch": BATCH, "data_share": share, "rows": rows}


def _ours(model: str, images: Any, labels: Any, precision: str) -> Callable[[], object]:
    contract = default_contract(model, FER2013)
    learner = Learner(create(model), contract, TrainConfig(precision=precision).resolved(model), None)
    faces, wanted = torch.from_numpy(np.ascontiguousarray(prepare_batch(images, contract))), torch.from_numpy(labels)

    def step() -> object:
        rows = torch.randint(len(faces), (BATCH,))
        return learner.step(faces[rows], wanted[rows], 1e-3)

    return step


def _data_share(images: Any, step_seconds: float, rounds: int) -> float:
    """The part of a step that picks and augments its faces."""
    faces, taken = torch.from_numpy(images), []
    for _ in range(4 * rounds):
        begun = time.perf_counter()
        augment(faces[torch.randint(len(faces), (BATCH,))], 1.0)
        taken.append(time.perf_counter() - begun)
    return median(taken) / step_seconds


def _tutorial(model: str, images: Any, labels: Any) -> Callable[[], object]:
    contract = default_contract(model, FER2013)
    change = _changed_by_pil(contract)

    class Faces(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return change(images[index, :, :, 0]), int(labels[index])

    loader = torch.utils.data.DataLoader(Faces(), batch_size=BATCH, shuffle=True, drop_last=True)
    network, loss = create(model).train(), nn.CrossEntropyLoss()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield from loader

    endless = batches()

    def step() -> object:
        faces, wanted = next(endless)
        optimiser.zero_grad()
        value = loss(network(faces), wanted)
        value.backward()
        optimiser.step()
        return value.item()

    return step


def _changed_by_pil(contract: Contract) -> Callable[[Any], torch.Tensor]:
    """Flip, one affine resampling, brightness, contrast, to a normalised tensor, as torchvision changes PIL images."""
    image, enhance = (require(f"PIL.{part}", "plots", "the tutorials' loop") for part in ("Image", "ImageEnhance"))
    rng = np.random.default_rng(0)

    def change(pixels: Any) -> torch.Tensor:
        picture = image.fromarray(pixels)
        if contract.channels == 3:
            picture = picture.convert("RGB")
        picture = picture.resize((contract.width, contract.height), image.Resampling.BILINEAR)
        if rng.random() < 0.5:
            picture = picture.transpose(image.Transpose.FLIP_LEFT_RIGHT)
        angle, zoom = np.deg2rad(rng.uniform(-10, 10)), rng.uniform(0.9, 1.1)
        cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
        x, y = contract.width / 2, contract.height / 2
        shift = rng.uniform(-0.1, 0.1, 2) * (contract.width, contract.height)
        matrix = (cos, sin, x - cos * x - sin * y + shift[0], -sin, cos, y + sin * x - cos * y + shift[1])
        picture = picture.transform(picture.size, image.Transform.AFFINE, matrix, image.Resampling.BILINEAR)
        picture = enhance.Brightness(picture).enhance(rng.uniform(0.8, 1.2))
        picture = enhance.Contrast(picture).enhance(rng.uniform(0.8, 1.2))
        values = torch.from_numpy(np.asarray(picture, dtype=np.float32)) / 255
        values = values[None] if contract.channels == 1 else values.permute(2, 0, 1)
        return (values - 0.5) / 0.5

    return change


if __name__ == "__main__":
    main()
