"""Time engines against a baseline and pair their answers on faces that chose nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from edgefer.contract import Contract
from edgefer.data import FaceSet, aligned, open_dataset, refuse_overlap
from edgefer.engines.classifier import Classifier
from edgefer.engines.load import load_baseline, load_engine
from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import Predictions, check_classes, numbered
from edgefer.measure.environment import describe_environment
from edgefer.measure.evaluate import Cache, Opener, evaluate
from edgefer.measure.paired import Paired, check_same_faces
from edgefer.progress import announce
from edgefer.report.report import Report, Row
from edgefer.report.settings import MARGIN_PP, Settings
from edgefer.report.timing import LEAST_ROUNDS, Timed, time_all

Engine: TypeAlias = str | os.PathLike[str] | Classifier
Baseline: TypeAlias = str | os.PathLike[str] | Classifier | Predictions
Opened: TypeAlias = tuple[Classifier, Opener | None]

CHOOSING_SPLITS = ("train", "fit", "val", "calib")
RUNTIME_TITLES = {"pytorch": "PyTorch", "torch": "PyTorch", "openvino": "OpenVINO", "tensorrt": "TensorRT"}


def benchmark(
    engine: Engine | Sequence[Engine],
    data: str | os.PathLike[str] | FaceSet,
    baseline: Baseline,
    *,
    batch: int = 1,
    threads: int = 1,
    seconds: float = 10.0,
    limit: int | None = None,
    seed: int = 0,
    scope: str = "e2e",
    iterations: int | None = None,
    warm_up: float = 2.0,
    fps: float = 30.0,
    deadline_ms: float | None = None,
    margin_pp: float = MARGIN_PP,
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
        batch: faces a timed call.
        threads: that each runtime is given.
        seconds: of timing, all runners together.
        limit: judge on so many faces at most, drawn at random by ``seed``; all if None.
        seed: of that draw, of the order within timing rounds and of the speed-up's bootstrap.
        scope: what is timed: ``compute``, ``e2e`` or ``paced``; see ``edgefer.measure.latency``.
        iterations: timed calls an engine, instead of ``seconds``.
        warm_up: cap of each engine's warm-up, seconds.
        fps: frames a second, of ``paced``.
        deadline_ms: of ``paced``; one period if None.
        margin_pp: the drop that would be accepted, points: non-inferiority is judged against it.
        processes: that share the judging of each engine that is given as a path.
        cache: a folder where finished parts of the judging are kept, for a run that is interrupted.
        telemetry: watch clock, temperature, throttling, memory and power from a second process.

    Raises:
        EdgeferError: no engine or no face; labels of engine, baseline and data differ; faces that calibrated an engine
            are among the judged; whatever loading refuses.
    """
    settings = Settings(
        batch=batch,
        threads=threads,
        scope=scope,
        seconds=seconds,
        iterations=iterations,
        warm_up=warm_up,
        fps=fps,
        deadline_ms=deadline_ms,
        limit=limit,
        seed=seed,
        margin_pp=margin_pp,
    )
    environment = describe_environment()
    faces = _judged_faces(data, limit, seed)
    with ExitStack() as opened:
        engines = [_open(item, partial(load_engine, threads=threads), opened) for item in _as_list(engine)]
        reference = _open_baseline(baseline, threads, engines[0][0].contract, opened)
        faces = aligned(faces, engines[0][0].contract.labels)
        judged = engines if isinstance(reference, Predictions) else [reference, *engines]
        timed = [classifier for classifier, _ in judged]
        _refuse_mismatch(timed, reference if isinstance(reference, Predictions) else None, faces)
        others = () if isinstance(reference, Predictions) else tuple(_other_inputs(timed[0], timed[1:]))
        names = _distinct_names(timed)
        kept = None if cache is None else Cache(Path(cache))
        answers = [_answers(item, faces, processes, kept) for item in judged]
        found = time_all(
            dict(zip(names, timed, strict=True)), faces, settings, environment["cores"], telemetry=telemetry
        )
        rows = [_row(*item, found) for item in zip(names, timed, answers, strict=True)]
    if kept is not None:
        kept.clear()  # only now: an interrupted timing need not judge again
    base = _predictions_row(reference) if isinstance(reference, Predictions) else rows.pop(0)
    return Report(
        baseline=base,
        engines=tuple(_compared(row, base, found, seed) for row in rows),
        data=faces.origin,
        batch=batch,
        threads=threads,
        environment=environment,
        warnings=(*found.warnings, *others, *_face_warnings(faces)),
        invalid=found.invalid,
        settings=settings,
        telemetry=found.telemetry,
        faces=faces,
    )


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


def _judged_faces(data: str | os.PathLike[str] | FaceSet, limit: int | None, seed: int) -> FaceSet:
    faces = data if isinstance(data, FaceSet) else open_dataset(data)
    faces = faces.part("test")
    if len(faces) == 0:
        raise EdgeferError(f"{faces.origin} has 0 faces: nothing can be judged on it", hint="choose another split")
    if limit is None or limit >= len(faces):
        return faces
    if limit < 1:
        raise EdgeferError(f"the limit of judged faces must be at least 1, not {limit}")
    # at random and not balanced: the share of each class, and so the expected top-1, stays that of all faces
    drawn = np.random.default_rng(seed).choice(len(faces), limit, replace=False)
    return faces.subset(np.sort(drawn))


def _refuse_mismatch(classifiers: Iterable[Classifier], baseline: Predictions | None, faces: FaceSet) -> None:
    judged = f"the judged faces ({faces.origin})"
    if baseline is not None:
        check_classes(baseline.name, baseline.classes, faces.origin, faces.classes)
        groups = numbered(faces.group_keys())
        check_same_faces(baseline, faces.origin, faces.fingerprint(), faces.labels, groups)
    for classifier in classifiers:
        check_classes(classifier.name, classifier.contract.labels, faces.origin, faces.classes)
        calibration = None if classifier.manifest is None else classifier.manifest.calibration
        if calibration is not None:
            what = f"the calibration faces of {classifier.name} ({calibration.origin})"
            refuse_overlap(calibration.face_hashes, faces.face_hashes(), what, judged)
        if classifier.seen:
            digits = len(next(iter(classifier.seen)))
            beginnings = [face[:digits] for face in faces.face_hashes()]
            refuse_overlap(classifier.seen, beginnings, f"the faces that trained {classifier.name}", judged)


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


def _answers(opened: Opened, faces: FaceSet, processes: int, cache: Cache | None) -> Predictions:
    classifier, reopen = opened
    if processes > 1 and reopen is None:
        announce(f"note: {classifier.name} is open already: one process computes its answers, not {processes}")
    return evaluate(classifier, faces, processes=processes if reopen else 1, reopen=reopen, cache=cache)


def _distinct_names(classifiers: Sequence[Classifier]) -> list[str]:
    """``runtime PRECISION``; the file's name follows where that is not enough, a number where that is not either."""
    titles = [f"{RUNTIME_TITLES.get(c.runtime, c.runtime)} {c.precision.upper()}" for c in classifiers]
    longer = [
        title if titles.count(title) == 1 else f"{title} {Path(c.name).name}"
        for title, c in zip(titles, classifiers, strict=True)
    ]
    return [
        name if longer.count(name) == 1 else f"{name} #{longer[: i + 1].count(name)}" for i, name in enumerate(longer)
    ]


def _row(name: str, classifier: Classifier, answers: Predictions, found: Timed) -> Row:
    return Row(
        name=name,
        model=classifier.contract.architecture,
        runtime=classifier.runtime,
        precision=classifier.precision,
        predictions=answers,
        latency=found.timing.latency(name),
        size_bytes=classifier.size_bytes,
        runtime_version=classifier.runtime_version,
        rounds_ms=found.timing.rounds_ms[name],
        pace=found.paces.get(name),
        joules=found.joules.get(name),
        gpu=found.gpu.get(name),
        layers=() if classifier.manifest is None else classifier.manifest.precision.layers,
    )


def _predictions_row(predictions: Predictions) -> Row:
    return Row(predictions.name, None, None, None, predictions, latency=None, size_bytes=None)


def _compared(row: Row, base: Row, found: Timed, seed: int) -> Row:
    """With a speed-up where both were timed, in rounds enough to be resampled: one round has no spread."""
    known = base.latency is not None and len(found.timing.rounds_ms[row.name]) >= LEAST_ROUNDS
    return replace(
        row,
        paired=Paired.from_predictions(base.predictions, row.predictions),
        speedup=found.timing.speedup(base.name, row.name, seed=seed) if known else None,
    )


def _face_warnings(faces: FaceSet) -> Iterator[str]:
    if faces.picked in CHOOSING_SPLITS:
        yield f"{faces.origin} are faces that train or choose networks: an accuracy on them is flattered"
    lacking = [name for name, count in faces.per_class_counts().items() if not count]
    if lacking:
        yield f"{faces.origin} has no face of {', '.join(lacking)}: nothing is known about that"
    distinct = len(np.unique(faces.group_keys()))
    if distinct < len(faces):
        yield f"{len(faces):,} faces, {distinct:,} distinct: intervals count copies and near-duplicates once"
