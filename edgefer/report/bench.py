"""Time engines against a baseline and pair their answers on faces that chose nothing."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgefer import __version__
from edgefer.atomic import atomic_path
from edgefer.contract import Contract
from edgefer.data import FaceSet, aligned
from edgefer.engines.classifier import Classifier
from edgefer.engines.load import load_engine
from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import Predictions
from edgefer.measure.disturbance import UNDISTURBED
from edgefer.measure.environment import describe_environment, describe_gpu
from edgefer.measure.evaluate import Cache, evaluate
from edgefer.measure.label_order import order_warning
from edgefer.measure.latency import Estimate
from edgefer.progress import announce
from edgefer.report.baseline import Baseline, Opened, open_and_reopen, open_baseline
from edgefer.report.evaluated import LeftOut, evaluated_faces, face_warnings, opened_faces, unknown_training
from edgefer.report.report import (
    Accuracy,
    LatencySummary,
    PairedAccuracy,
    Raw,
    Report,
    Row,
    time_axis,
    to_digits,
    to_members,
)
from edgefer.report.timing import DEFAULT_SETTINGS, MIN_ROUNDS, BenchSettings, Timed, gpu_of, time_all, variables

Engine: TypeAlias = str | os.PathLike[str] | Classifier

SAMPLE_SUFFIXES = (".csv", ".npz")


def benchmark(
    engine: Engine | Sequence[Engine],
    data: str | os.PathLike[str] | FaceSet,
    baseline: Baseline,
    settings: BenchSettings = DEFAULT_SETTINGS,
    *,
    processes: int = 1,
    cache: str | os.PathLike[str] | None = None,
    telemetry: bool = True,
) -> Report:
    """Compare one or several engines with a baseline, in accuracy and in speed.

    Args:
        engine: paths of engines, or classifiers that are open already (they stay open, with their own threads).
        data: a dataset, of which the ``test`` split is taken, ``DATA:split``, or a face set.
        baseline: a network of the zoo, a weights file, a network of one's own (``package.module:factory``, or a
            :class:`~edgefer.engines.load.TorchBaseline` with its weights and contract), an engine, an open classifier,
            or predictions (an npz path or a value), which have an accuracy and no latency.
        settings: settings of timing and comparison.
        processes: processes that share the evaluation of each engine that is given as a path.
        cache: a folder where finished parts of the evaluation are kept, for a run that is interrupted.
        telemetry: watch clock, temperature, throttling, memory and power from a second process.

    Raises:
        EdgeferError: no engine or no face; labels of engine, baseline and data differ; too few faces remain without
            those that trained or calibrated an engine; whatever loading refuses.
    """
    environment = describe_environment()
    faces = opened_faces(data)
    with ExitStack() as opened:
        engines = [
            open_and_reopen(item, partial(load_engine, threads=settings.threads), opened) for item in _as_list(engine)
        ]
        given = open_baseline(baseline, [classifier for classifier, _ in engines], settings, opened)
        reference, settings = given.reference, given.settings
        if given.gpu:  # what the environment says of a GPU is of CUDA's first
            environment |= describe_gpu(given.gpu)
        order = reference.classes if isinstance(reference, Predictions) else engines[0][0].contract.labels
        faces = aligned(faces, order)  # other networks' answers are brought into it
        evaluated = engines if isinstance(reference, Predictions) else [reference, *engines, *given.others]
        timed = [classifier for classifier, _ in evaluated]
        answered = reference if isinstance(reference, Predictions) else None
        faces, left_out, known = evaluated_faces(faces, timed, answered, settings.limit, settings.seed)
        others = () if known is not None else tuple(_other_inputs(timed[0], timed[1:]))
        names = _distinct_names(timed)
        kept = None if cache is None else Cache(Path(cache))
        predictions = [_predictions(item, faces, processes, kept) for item in evaluated]
        found = time_all(
            dict(zip(names, timed, strict=True)), faces, settings, environment["cores"], telemetry=telemetry
        )
        rows = [_row(*item) for item in zip(names, timed, predictions, strict=True)]
    if kept is not None:
        kept.clear()  # only now: an interrupted timing need not evaluate again
    if known is not None:
        rows = [Row(known.name, None, None, None, None, None, Accuracy.of(known)), *rows]
        predictions = [known, *predictions]
    return make_report(
        rows,
        Raw(faces, tuple(predictions), found.timing.rounds_ms),
        found,
        settings,
        environment,
        warnings=(
            *given.warnings,
            *others,
            *unknown_training(timed[: len(timed) - len(given.others)]),
            *face_warnings(faces),
            *_order_warnings(predictions, faces),
        ),
        left_out=left_out,
    )


def make_report(
    rows: Sequence[Row],
    raw: Raw,
    found: Timed,
    settings: BenchSettings,
    environment: Mapping[str, Any],
    warnings: Sequence[str] = (),
    left_out: LeftOut | None = None,
) -> Report:
    """A report of ``rows`` that have an accuracy; what was timed and how they compare is filled in.

    Args:
        rows: the baseline first.
        raw: their predictions, in the same order.
        found: their timing, by their names.
        settings: settings that they were timed with.
        environment: where.
        warnings: further sentences that limit what the numbers mean.
        left_out: test faces that were not evaluated.
    """
    base = raw.predictions[0]
    axis = time_axis(found.timing)
    filled = [_with_timing(row, found, settings.batch, axis) for row in rows]
    for place, answers in enumerate(raw.predictions[1:], start=1):
        row, paired = filled[place], PairedAccuracy.of(base, answers, settings.margin_pp)
        speedup = _speedup(found, filled[0], row, settings.seed)
        disturbed = row.disturbed if speedup is not None else replace(row.disturbed, speedup=())
        filled[place] = replace(row, paired=paired, speedup=speedup, disturbed=disturbed)
    return Report(
        data=Path(raw.faces.origin).name,  # where it lies is nobody's business
        faces_sha256=base.faces_sha256,
        classes=tuple(base.classes),
        labels=to_digits(base.labels, len(base.classes)),
        groups=to_members(base.groups),
        settings=settings,
        variables=variables(),
        environment=environment,
        rows=tuple(filled),
        left_out=left_out,
        load=found.load,
        warnings=(*found.warnings, *warnings),
        telemetry=found.telemetry,
        time_axis_ms=axis,
        edgefer=__version__,
        raw=raw,
    )


def _row(name: str, classifier: Classifier, predictions: Predictions) -> Row:
    return Row(
        name=name,
        model=classifier.contract.architecture,
        runtime=classifier.runtime,
        runtime_version=classifier.runtime_version,
        device=None if (gpu := gpu_of(classifier)) is None else f"cuda:{gpu}",
        precision=classifier.precision,
        size_bytes=classifier.size_bytes,
        accuracy=Accuracy.of(predictions),
        layers=() if classifier.manifest is None else classifier.manifest.precision.layers,
    )


def _with_timing(row: Row, found: Timed, batch: int, axis: tuple[float, float]) -> Row:
    if row.runtime is None:  # predictions are not timed
        return row
    latency = LatencySummary.of(found.timing, row.name, axis)
    return replace(
        row,
        latency=latency,
        images_per_s=batch * 1000.0 / latency.p50 if latency.p50 else None,
        pace=found.paces.get(row.name),
        energy=found.energies.get(row.name),
        gpu_ms=found.gpu_ms.get(row.name),
        disturbed=found.disturbed.get(row.name, UNDISTURBED),
    )


def _speedup(found: Timed, base: Row, row: Row, seed: int) -> Estimate | None:
    """Where both were timed, in rounds enough to be resampled: one round has no spread."""
    if base.latency is None or row.latency is None or row.latency.rounds < MIN_ROUNDS:
        return None
    return found.timing.speedup(base.name, row.name, seed=seed)


def _as_list(engine: Engine | Sequence[Engine]) -> list[Engine]:
    if isinstance(engine, (str, os.PathLike, Classifier)):
        return [engine]
    engines = list(engine)
    if not engines:
        raise EdgeferError("no engine was given to the benchmark", hint="pass one or more: `edgefer bench x.onnx …`")
    return engines


def _other_inputs(baseline: Classifier, engines: Iterable[Classifier]) -> Iterator[str]:
    """A warning for each network that takes other faces than the baseline; an error where it should be the same one."""
    for engine in engines:
        ours, theirs = engine.contract, baseline.contract
        if (ours.face_shape, ours.normalisation) == (theirs.face_shape, theirs.normalisation):
            continue
        what = f"{engine.name} takes {_input(ours)}, {baseline.name} {_input(theirs)}"
        if ours.architecture == theirs.architecture:
            raise EdgeferError(
                f"{what}: they are not the same {ours.architecture}",
                hint="compare an engine with the weights it was built from, or say that it is another network: "
                "save the baseline's answers (--save-baseline) and pass that npz",
            )
        yield f"{what}: two networks are compared, not a network and its conversion"


def _input(contract: Contract) -> str:
    norm = contract.normalisation
    values = [
        f"scale {norm.scale:.4g}",
        *(f"{k} {', '.join(f'{v:.4g}' for v in getattr(norm, k))}" for k in ("mean", "std")),
    ]
    return f"{'×'.join(map(str, contract.face_shape))} faces ({'; '.join(values)})"


def _predictions(opened: Opened, faces: FaceSet, processes: int, cache: Cache | None) -> Predictions:
    classifier, reopen = opened
    if processes > 1 and reopen is None:
        announce(f"note: {classifier.name} is open already: one process computes its answers, not {processes}")
    return evaluate(classifier, faces, processes=processes if reopen else 1, reopen=reopen, cache=cache)


def _distinct_names(classifiers: Sequence[Classifier]) -> list[str]:
    """The name of each one's file, or of the network.

    Files of one name in several folders have as much of their paths as tells them apart, so that such a name depends on
    what else is in the report; a number follows where one was given twice.
    """
    parts = [Path(c.name).parts for c in classifiers]
    found = []
    for own in parts:
        alike = {other for other in parts if other[-1:] == own[-1:]}
        depth = next((d for d in range(1, len(own)) if len({other[-d:] for other in alike}) == len(alike)), len(own))
        found.append("/".join(own[-depth:]))
    return [name if found.count(name) == 1 else f"{name} #{found[: i + 1].count(name)}" for i, name in enumerate(found)]


def _order_warnings(predictions: Iterable[Predictions], faces: FaceSet) -> Iterator[str]:
    """One at most: an engine has the labels of what it was built from."""
    found = (order_warning(answers, Path(faces.origin).name) for answers in predictions)
    yield from islice((warning for warning in found if warning is not None), 1)


def check_samples_path(path: str | os.PathLike[str]) -> None:
    """Refuse a name that says no format.

    Raises:
        EdgeferError: it ends in neither ``.csv`` nor ``.npz``.
    """
    if Path(path).suffix not in SAMPLE_SUFFIXES:
        raise EdgeferError(f"samples are written as .csv or .npz, not {Path(path).name}", hint="name it samples.csv")


def write_samples(rounds_ms: Mapping[str, NDArray[np.float64]], path: str | os.PathLike[str]) -> None:
    """Write ``name, round, call, ms`` lines (csv), or an array rounds × calls in ms for each name (npz).

    Rounds of all names were taken together: row ``i`` of each belongs to the same moments.

    Raises:
        EdgeferError: the name says no format, or it cannot be written.
    """
    check_samples_path(path)
    with atomic_path(path) as temporary:
        if Path(path).suffix == ".npz":
            with temporary.open("wb") as stream:
                np.savez_compressed(stream, **rounds_ms)  # type: ignore[arg-type]  # names are its options to the stub
            return
        with temporary.open("w", encoding="utf-8", newline="") as text:
            writer = csv.writer(text)
            writer.writerow(("name", "round", "call", "ms"))
            for name, samples in rounds_ms.items():
                for (i, k), value in np.ndenumerate(samples):
                    writer.writerow((name, i, k, f"{value:.6f}"))
