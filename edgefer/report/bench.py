"""Time engines against a baseline and pair their answers on faces that chose nothing."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from edgefer.data import FaceSet, aligned, open_dataset, refuse_overlap
from edgefer.engines.classifier import Classifier
from edgefer.engines.load import load_baseline, load_engine
from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import Predictions, check_classes, numbered
from edgefer.measure.environment import describe_environment
from edgefer.measure.evaluate import Cache, Opener, evaluate
from edgefer.measure.label_order import order_warning
from edgefer.measure.latency import Estimate
from edgefer.measure.paired import check_same_faces
from edgefer.progress import announce
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
from edgefer.report.timing import DEFAULT_SETTINGS, MIN_ROUNDS, BenchSettings, Timed, time_all, variables
from edgefer.runtimes import label_of

Engine: TypeAlias = str | os.PathLike[str] | Classifier
Baseline: TypeAlias = str | os.PathLike[str] | Classifier | Predictions
Opened: TypeAlias = tuple[Classifier, Opener | None]

CHOOSING_SPLITS = ("train", "fit", "val", "calib")
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
        baseline: a network of the zoo, a weights file, an engine, an open classifier, or predictions (an npz path or
            a value), which have an accuracy and no latency.
        settings: settings of timing and comparison.
        processes: processes that share the evaluation of each engine that is given as a path.
        cache: a folder where finished parts of the evaluation are kept, for a run that is interrupted.
        telemetry: watch clock, temperature, throttling, memory and power from a second process.

    Raises:
        EdgeferError: no engine or no face; labels of engine, baseline and data differ; faces that calibrated an engine
            are among the evaluated; whatever loading refuses.
    """
    environment = describe_environment()
    faces = _evaluated_faces(data, settings.limit, settings.seed)
    with ExitStack() as opened:
        engines = [_open(item, partial(load_engine, threads=settings.threads), opened) for item in _as_list(engine)]
        reference = _open_baseline(baseline, settings.threads, engines[0][0].contract, opened)
        faces = aligned(faces, engines[0][0].contract.labels)
        known = reference if isinstance(reference, Predictions) else None
        evaluated = engines if isinstance(reference, Predictions) else [reference, *engines]
        timed = [classifier for classifier, _ in evaluated]
        _refuse_mismatch(timed, known, faces)
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
        warnings=(*others, *_face_warnings(faces), *_order_warnings(predictions, faces)),
    )


def make_report(
    rows: Sequence[Row],
    raw: Raw,
    found: Timed,
    settings: BenchSettings,
    environment: Mapping[str, Any],
    warnings: Sequence[str] = (),
) -> Report:
    """A report of ``rows`` that have an accuracy; what was timed and how they compare is filled in.

    Args:
        rows: the baseline first.
        raw: their predictions, in the same order.
        found: their timing, by their names.
        settings: settings that they were timed with.
        environment: where.
        warnings: further sentences that limit what the numbers mean.
    """
    base = raw.predictions[0]
    axis = time_axis(found.timing)
    filled = [_with_timing(row, found, settings.batch, axis) for row in rows]
    for place, answers in enumerate(raw.predictions[1:], start=1):
        paired = PairedAccuracy.of(base, answers, settings.margin_pp)
        filled[place] = replace(
            filled[place], paired=paired, speedup=_speedup(found, filled[0], filled[place], settings.seed)
        )
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
        warnings=(*found.warnings, *warnings),
        invalid=found.invalid,
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


def _open(item: Engine, load: Callable[..., Classifier], opened: ExitStack) -> Opened:
    """A classifier that was handed in stays its owner's; one that is loaded here is closed here, and can be again."""
    if isinstance(item, Classifier):
        return item, None
    reopen = partial(load, item)
    return opened.enter_context(reopen()), reopen


def _open_baseline(baseline: Baseline, threads: int, contract: Contract, opened: ExitStack) -> Opened | Predictions:
    """``contract`` is the engines': a bare state dict has none of its own."""
    if isinstance(baseline, Predictions):
        return baseline
    if not isinstance(baseline, Classifier) and Path(baseline).suffix == ".npz":
        return Predictions.load(baseline)
    return _open(baseline, partial(load_baseline, threads=threads, contract=contract), opened)


def _evaluated_faces(data: str | os.PathLike[str] | FaceSet, limit: int | None, seed: int) -> FaceSet:
    faces = data if isinstance(data, FaceSet) else open_dataset(data)
    faces = faces.picked_or("test")
    if len(faces) == 0:
        raise EdgeferError(f"{faces.origin} has 0 faces: nothing can be evaluated on it", hint="choose another split")
    if limit is None or limit >= len(faces):
        return faces
    # at random and not balanced: the share of each class, and so the expected top-1, stays that of all faces
    sample = np.random.default_rng(seed).choice(len(faces), limit, replace=False)
    return faces.subset(np.sort(sample))


def _refuse_mismatch(classifiers: Iterable[Classifier], baseline: Predictions | None, faces: FaceSet) -> None:
    evaluated = f"the evaluated faces ({faces.origin})"
    if baseline is not None:
        check_classes(baseline.name, baseline.classes, faces.origin, faces.classes)
        groups = numbered(faces.group_keys())
        check_same_faces(baseline, faces.origin, faces.fingerprint(), faces.labels, groups)
    for classifier in classifiers:
        check_classes(classifier.name, classifier.contract.labels, faces.origin, faces.classes)
        calibration = None if classifier.manifest is None else classifier.manifest.calibration
        if calibration is not None:
            what = f"the calibration faces of {classifier.name} ({calibration.origin})"
            refuse_overlap(calibration.face_hashes, faces.face_hashes(), what, evaluated)
        if classifier.seen:
            digits = len(next(iter(classifier.seen)))
            beginnings = [face[:digits] for face in faces.face_hashes()]
            refuse_overlap(classifier.seen, beginnings, f"the faces that trained {classifier.name}", evaluated)


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
    """``runtime PRECISION``; the file's name follows where that is not enough, a number where that is not either."""
    titles = [f"{label_of(c.runtime)} {c.precision.upper()}" for c in classifiers]
    longer = [
        title if titles.count(title) == 1 else f"{title} {Path(c.name).name}"
        for title, c in zip(titles, classifiers, strict=True)
    ]
    return [
        name if longer.count(name) == 1 else f"{name} #{longer[: i + 1].count(name)}" for i, name in enumerate(longer)
    ]


def _face_warnings(faces: FaceSet) -> Iterator[str]:
    if faces.picked in CHOOSING_SPLITS:
        yield f"{faces.origin} are faces that train or choose networks: an accuracy on them is flattered"
    lacking = [name for name, count in faces.per_class_counts().items() if not count]
    if lacking:
        yield f"{faces.origin} has no face of {', '.join(lacking)}: nothing is known about that"
    distinct = len(np.unique(faces.group_keys()))
    if distinct < len(faces):
        yield f"{len(faces):,} faces, {distinct:,} distinct: intervals count copies and near-duplicates once"


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
