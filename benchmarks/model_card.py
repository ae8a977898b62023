#!/usr/bin/env python3
"""Evaluate weights and write their model card: `python benchmarks/model_card.py WEIGHTS --data … --train … --curve …`.

The card stands beside the weights; its results are kept in benchmarks/results/ as JSON. It is run once, after the
training: nothing is chosen by what it says.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import RESULTS, one_error, table

from edgefer.atomic import write_text
from edgefer.data import FaceSet, open_dataset
from edgefer.data.classes import FER2013
from edgefer.engines.load import load_baseline
from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import (
    Predictions,
    class_scores,
    design_effect,
    macro_f1,
    macro_f1_ci95,
    wilson_interval,
)
from edgefer.measure.evaluate import evaluate
from edgefer.measure.paired import Paired
from edgefer.models.importing import Stated, import_weights
from edgefer.models.registry import architecture
from edgefer.models.weights import load_weights
from edgefer.progress import announce

EPOCH = re.compile(r"epoch (\d+): loss ([\d.]+), val top-1 ([\d.]+) %")

USE = """\
## Licence and use

The weights are Apache-2.0, like edgefer. They were learnt from FER2013, whose pictures were gathered for research;
whoever puts them into a product has to judge that for themselves. No picture is part of this project.

- They guess which of {words} words a labeller would have chosen for a face cut out of a picture. That is not what
  a person feels.
- Not for judging people: not for hiring, school, insurance, police, borders or courts, nor for watching people at work.
  In the EU, inferring emotions at work and in education is prohibited (Regulation 2024/1689, article 5).
- Accuracy by age, sex, skin or any other subgroup was **not measured**: FER2013 does not say who is in it.
- FER2013's labels are noisy; people agree with them in about two cases of three (Goodfellow et al. 2013: 65 ± 5 %).
"""

FLIPPED = """\
Test-time augmentation (horizontal flip): everything made from this file evaluates each face and its horizontal flip
and averages the logits, inside the graph, for twice the work. To make a file without it:
`edgefer import-weights FILE --model NAME --no-test-time-flip -o OTHER`."""

TAUGHT = """\
It learnt from the answers of {count} beside the labels (distillation: Hinton et al. 2015), trained by edgefer
too, on the same fit faces, and chosen on the same val faces. SHA-256: {teachers}."""

VOTED = """\
FER+'s votes for the fit faces were part of what it learnt (`vote_share`); published trainings are not known to
use them."""


@click.command()
@click.argument("weights", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="The faces to evaluate on, e.g. public_test.npz:all.")
@click.option("--train", "train_data", required=True, help="The data that it was trained on.")
@click.option("--exclude", help="The data that were left out of --train, as for `edgefer train`.")
@click.option("--votes", help="FER+'s votes instead of FER2013's labels, as for `edgefer train`.")
@click.option(
    "--curve", type=click.Path(path_type=Path), required=True, help="The file with stderr of `edgefer train`."
)
@click.option(
    "--command",
    "commands",
    required=True,
    multiple=True,
    help="A command that trained it, for the card; may be repeated.",
)
def main(
    weights: Path,
    data: str,
    train_data: str,
    exclude: str | None,
    votes: str | None,
    curve: Path,
    commands: tuple[str, ...],
) -> None:
    """Write WEIGHTS' card, WEIGHTS.md, and its results."""
    with one_error():
        everything, test_faces = open_dataset(train_data, votes=votes), open_dataset(data, votes=votes)
        train = open_dataset(train_data, votes=votes, exclude=exclude)
        results = measure(weights, train, everything, test_faces, curve)
    write_text(RESULTS / f"{weights.stem}.json", json.dumps(results, indent=1) + "\n")
    write_text(weights.with_suffix(".md"), card(weights.stem, results, commands))
    announce(f"written: {weights.with_suffix('.md')}")


def measure(weights: Path, train: FaceSet, everything: FaceSet, test_faces: FaceSet, curve: Path) -> dict[str, Any]:
    """Everything that the card says."""
    loaded = load_weights(weights)
    lineage = (contract := loaded.contract) and contract.lineage
    if not contract or not lineage or lineage["fit_sha256"] != train.split("fit").fingerprint():
        raise EdgeferError(f"{weights} was not trained on the fit part of {train.origin}", hint="give its own --train")
    with load_baseline(weights) as network:
        val, test = evaluate(network, train.split("val")), evaluate(network, test_faces)
    seen = np.isin(test_faces.face_hashes(), train.split("train").face_hashes())
    published = np.isin(test_faces.face_hashes(), everything.split("train").face_hashes())
    right, gain = test.correct, None
    if contract.test_time_flip:
        answers = {"test": test, "val": val}
        gain = _flip_gain(weights, contract.architecture, answers, test_faces, train.split("val"))
    return {
        "architecture": contract.architecture,
        "labels": "FER2013" if contract.labels == FER2013 else "FER+",
        "parameters": architecture(contract.architecture).params[len(contract.labels)],
        "published": architecture(contract.architecture).published,
        "input": f"{contract.height}×{contract.width} {'grey' if contract.channels == 1 else 'colour'}",
        "test_time_flip": contract.test_time_flip,
        "fp16": any(str(tensor.dtype) == "torch.float16" for tensor in loaded.state.values()),
        "sha256": loaded.sha256,
        "bytes": weights.stat().st_size,
        "lineage": dict(lineage),
        "faces": {part: len(train.split(part)) for part in ("fit", "val", "calib")},
        "left_out": {_short(reason): count for reason, count in train.split("train").dropped.items()},
        "test_faces_also_in_train": int(seen.sum()),
        "copies": {
            "n": int(published.sum()),
            "top1": float(right[published].mean()) if published.any() else None,
            "top1_of_others": float(right[~published].mean()),
        },
        "val": summary(val),
        "test": {"data": Path(test_faces.origin).name, **summary(test)},
        "flip_gain": gain,
        "classes": by_class(test),
        "curve": [[int(a), float(b), float(c)] for a, b, c in EPOCH.findall(curve.read_text(encoding="utf-8"))],
    }


def _flip_gain(
    weights: Path, name: str, both_sides: dict[str, Predictions], test: FaceSet, val: FaceSet
) -> dict[str, Any]:
    """What the weights reach on the test without the flip, and what it gains, paired, in points of top-1."""
    with tempfile.TemporaryDirectory() as folder:
        import_weights(weights, name, plain := Path(folder) / "w.safetensors", stated=Stated(test_time_flip=False))
        with load_baseline(plain) as network:
            one_side = {"test": evaluate(network, test), "val": evaluate(network, val)}
    paired = {part: Paired.from_predictions(one_side[part], both_sides[part]) for part in one_side}
    return {
        "test": summary(one_side["test"]),
        "gain_pp": {part: -found.drop_pp for part, found in paired.items()},
        "gain_ci95_pp": {part: [-found.ci95_pp[1], -found.ci95_pp[0]] for part, found in paired.items()},
    }


def summary(answers: Predictions) -> dict[str, Any]:
    """Top-1 and macro-F1 with their intervals."""
    return {
        "n": answers.n,
        "top1": answers.top1,
        "ci95": list(answers.top1_ci95),
        "macro_f1": macro_f1(answers),
        "macro_f1_ci95": list(macro_f1_ci95(answers)),
    }


def by_class(answers: Predictions) -> list[dict[str, Any]]:
    """For each class: faces, recall with its Wilson interval, precision, F1."""
    rows = []
    for label, score in enumerate(class_scores(answers)):
        faces = answers.labels == label
        right, groups = answers.correct[faces], answers.groups[faces]
        interval = wilson_interval(int(right.sum()), score.n, design_effect(right, groups))
        about = {"class": score.name, "n": score.n, "recall": score.recall, "ci95": list(interval)}
        rows.append({**about, "precision": score.precision or 0.0, "f1": score.f1})
    return rows


def card(name: str, results: dict[str, Any], commands: Sequence[str]) -> str:
    """The card of the weights ``name`` as Markdown."""
    flipped, faces, curve = results["test_time_flip"], results["faces"], results["curve"]
    left_out = "; ".join(f"{count:,} {reason}" for reason, count in results["left_out"].items()) or "none"
    words = {7: "seven", 8: "eight"}[len(results["classes"])]
    kept = ", in FP16 but for biases and batch norms" if results["fp16"] else ""
    parts = {"public test (chose nothing)": results["test"]}
    parts |= {"the same, without test-time flip": results["flip_gain"]["test"]} if flipped else {}
    parts |= {"val (chose the checkpoint)": results["val"]}
    accuracy = [
        [name, f"{part['n']:,}", *_share(part, "top1", "ci95"), *_share(part, "macro_f1", "macro_f1_ci95")]
        for name, part in parts.items()
    ]
    classes = [
        [row["class"], str(row["n"]), *_share(row, "recall", "ci95"), _pc(row["precision"]), _pc(row["f1"])]
        for row in results["classes"]
    ]
    shown = [row for row in curve if row[0] == 1 or row[0] % max(1, len(curve) // 10) == 0]
    interval = "95 % interval"
    lines = [
        f"# {name}, {results['labels']}\n",
        f"{results['parameters']:,} parameters{kept}, {results['input']} faces, {words} classes.",
        *([FLIPPED] if flipped else []),
        f"Published elsewhere: {results['published'] or 'no figure'}.",
        f"SHA-256 `{results['sha256']}`, {results['bytes']:,} bytes.\n",
        "## Accuracy\n",
        table(["faces", "n", "top-1", f"{interval} (Wilson)", "macro-F1", f"{interval} (bootstrap)"], accuracy) + "\n",
        *([_gain(results["flip_gain"]) + "\n"] if flipped else []),
        f"Faces of the public test with exact copies in training: {results['test_faces_also_in_train']}.",
        *_about_copies(results["copies"]),
        "",
        table(["class", "n", "recall", interval, "precision", "F1"], classes) + "\n",
        "## Data and recipe\n",
        f"FER2013's training faces: {faces['fit']:,} fit, {faces['val']:,} val, {faces['calib']:,} calib.",
        f"Left out by rule: {left_out}.\n",
        *(f"    {command}" for command in commands),
        "\nWhat the command does not say, the recipe does, and else `edgefer train`'s defaults.",
        *_learnt_from(results),
        "",
        *(["Training looks at one side of a face at a time, and so does its val top-1:\n"] if flipped else []),
        table(
            ["epoch", "training loss", "val top-1 %"],
            [[str(epoch), f"{loss:.4f}", f"{top1:.2f}"] for epoch, loss, top1 in shown],
            left=0,
        ),
        "",
        USE.format(words=words),
    ]
    return "\n".join(lines)


def _learnt_from(results: dict[str, Any]) -> list[str]:
    """What it began with and had beside the labels."""
    lineage, lines = results["lineage"], []
    if "init_sha256" in lineage:
        lines.append(f"It began with the weights of SHA-256 `{lineage['init_sha256']}`.")
    if "teachers_sha256" in lineage:
        hashes = [f"`{digest[:16]}…`" for digest in lineage["teachers_sha256"].split(",")]
        count = "another network" if len(hashes) == 1 else f"{len(hashes)} other networks"
        lines.append(TAUGHT.format(count=count, teachers=", ".join(hashes)))
    if "votes_sha256" in lineage and results["labels"] == "FER2013":
        lines.append(VOTED)
    return lines


def _gain(flip_gain: dict[str, Any]) -> str:
    """What the test-time flip gains, with Tango's intervals."""
    said = []
    for part, name in (("test", "the public test"), ("val", "val")):
        low, high = flip_gain["gain_ci95_pp"][part]
        said.append(f"{flip_gain['gain_pp'][part]:+.2f} [{low:+.2f}, {high:+.2f}] on {name}")
    return f"Test-time augmentation changes top-1 by this many points (paired, Tango's interval): {', '.join(said)}."


def _about_copies(copies: dict[str, Any]) -> list[str]:
    """Why accuracies that others publish are higher: their trainings had copies of some test faces."""
    if not copies["n"]:
        return []
    return [
        f"FER2013's training part has copies of {copies['n']} of the test faces; they were left out of this training.",
        "A training that keeps them is evaluated on faces that it saw. "
        f"Top-1 on those {copies['n']}: {_pc(copies['top1'])} %, on the others: {_pc(copies['top1_of_others'])} %.",
    ]


def _short(reason: str) -> str:
    """``also in /some/where/test.npz`` → ``also in test.npz``."""
    words, _, path = reason.rpartition(" ")
    return f"{words} {Path(path).name}".strip()


def _share(results: dict[str, Any], key: str, interval: str) -> tuple[str, str]:
    low, high = results[interval]
    return _pc(results[key]), f"{_pc(low)}…{_pc(high)}"


def _pc(value: float) -> str:
    return f"{100 * value:.1f}"


if __name__ == "__main__":
    main()
