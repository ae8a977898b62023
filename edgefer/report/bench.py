"""Time engines against a baseline and pair their answers on faces that chose nothing."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgefer.contract import Contract
from edgefer.data import FaceSet, aligned, open_dataset, refuse_overlap
from edgefer.engines.classifier import Classifier
from edgefer.engines.load import load_baseline, load_engine
from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import Predictions, check_classes, predict
from edgefer.measure.contention import Usage, others_since, too_busy
from edgefer.measure.environment import describe_environment
from edgefer.measure.latency import Interleaved, interleave
from edgefer.measure.paired import Paired
from edgefer.progress import announce, progress
from edgefer.report.report import Report, Row

Engine: TypeAlias = str | os.PathLike[str] | Classifier
Baseline: TypeAlias = str | os.PathLike[str] | Classifier | Predictions

TIMED_FACES = 64
"""So many different faces (or one batch, if that is more) go round while timing."""

NOTABLE_DRIFT = 0.10
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

    Raises:
        EdgeferError: no engine or no face; labels of engine, baseline and data differ; faces that calibrated an engine
            are among the judged; whatever loading refuses.
    """
    if batch < 1 or threads < 1:
        raise EdgeferError(f"batch and threads must be at least 1, not {batch} and {threads}")
    environment = describe_environment()
    faces = _judged_faces(data, limit, seed)
    with ExitStack() as opened:
        engines = [_open(item, lambda path: load_engine(path, threads), opened) for item in _as_list(engine)]
        reference = _open_baseline(baseline, threads, engines[0].contract, opened)
        faces = aligned(faces, engines[0].contract.labels)
        _refuse_mismatch(engines, reference, faces)
        timed = engines if isinstance(reference, Predictions) else [reference, *engines]
        names = _distinct_names(timed)
        answers = [predict(classifier, faces) for classifier in timed]
        announce(f"timing {', '.join(names)}: {seconds:g} s, batch {batch}, threads {threads}")
        runners = {name: _runner(classifier, faces, batch) for name, classifier in zip(names, timed, strict=True)}
        before = Usage.now()
        with progress("timing", seconds, quiet=True) as tick:
            timing = interleave(runners, seconds=seconds, seed=seed, tick=tick)
        others = others_since(before)
        rows = [_row(*item, timing) for item in zip(names, timed, answers, strict=True)]
    base = _predictions_row(reference) if isinstance(reference, Predictions) else rows.pop(0)
    return Report(
        baseline=base,
        engines=tuple(_compared(row, base, timing, seed) for row in rows),
        data=faces.origin,
        batch=batch,
        threads=threads,
        environment=environment,
        warnings=(
            *_machine_warnings(environment["cores"], threads, others),
            *_timing_warnings(timing),
            *_face_warnings(faces),
        ),
    )


def _as_list(engine: Engine | Sequence[Engine]) -> list[Engine]:
    if isinstance(engine, (str, os.PathLike, Classifier)):
        return [engine]
    engines = list(engine)
    if not engines:
        raise EdgeferError("no engine was given to the benchmark", hint="pass one or more: `edgefer bench x.onnx …`")
    return engines


def _open(item: Engine, load: Callable[[str | os.PathLike[str]], Classifier], opened: ExitStack) -> Classifier:
    """A classifier that was handed in stays its owner's; one that is loaded here is closed here."""
    return item if isinstance(item, Classifier) else opened.enter_context(load(item))


def _open_baseline(baseline: Baseline, threads: int, contract: Contract, opened: ExitStack) -> Classifier | Predictions:
    """``contract`` is the engines': a bare state dict has none of its own."""
    if isinstance(baseline, Predictions):
        return baseline
    if not isinstance(baseline, Classifier) and Path(baseline).suffix == ".npz":
        return Predictions.load(baseline)
    return _open(baseline, lambda spec: load_baseline(spec, threads, contract=contract), opened)


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


def _refuse_mismatch(engines: Iterable[Classifier], baseline: Classifier | Predictions, faces: FaceSet) -> None:
    judged = f"the judged faces ({faces.origin})"
    if isinstance(baseline, Predictions):
        check_classes(baseline.name, baseline.classes, faces.origin, faces.classes)
    for classifier in engines if isinstance(baseline, Predictions) else (baseline, *engines):
        check_classes(classifier.name, classifier.contract.labels, faces.origin, faces.classes)
        calibration = None if classifier.manifest is None else classifier.manifest.calibration
        if calibration is not None:
            what = f"the calibration faces of {classifier.name} ({calibration.origin})"
            refuse_overlap(calibration.face_hashes, faces.face_hashes(), what, judged)
        if classifier.seen:
            digits = len(next(iter(classifier.seen)))
            beginnings = [face[:digits] for face in faces.face_hashes()]
            refuse_overlap(classifier.seen, beginnings, f"the faces that trained {classifier.name}", judged)


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


def _runner(classifier: Classifier, faces: FaceSet, batch: int) -> Callable[[], object]:
    """A call that runs the next batch of real faces, prepared beforehand."""
    batches = itertools.cycle(_timed_batches(classifier, faces, batch))
    return lambda: classifier.logits(next(batches))


def _timed_batches(classifier: Classifier, faces: FaceSet, batch: int) -> list[NDArray[np.uint8]]:
    count = min(len(faces), max(batch, TIMED_FACES))
    spread = np.arange(count) * len(faces) // count
    pool = np.concatenate([part for part, _ in faces.subset(spread).batches(TIMED_FACES, classifier.contract)])
    starts = range(0, max(len(pool) - batch, 0) + 1, batch)
    # fewer faces than a batch holds: they go round
    return [np.ascontiguousarray(pool[(start + np.arange(batch)) % len(pool)]) for start in starts]


def _row(name: str, classifier: Classifier, answers: Predictions, timing: Interleaved) -> Row:
    return Row(
        name=name,
        model=classifier.contract.architecture,
        runtime=classifier.runtime,
        precision=classifier.precision,
        predictions=answers,
        latency=timing.latency(name),
        size_bytes=classifier.size_bytes,
    )


def _predictions_row(predictions: Predictions) -> Row:
    return Row(predictions.name, None, None, None, predictions, latency=None, size_bytes=None)


def _compared(row: Row, base: Row, timing: Interleaved, seed: int) -> Row:
    return replace(
        row,
        paired=Paired.from_predictions(base.predictions, row.predictions),
        speedup=None if base.latency is None else timing.speedup(base.name, row.name, seed=seed),
    )


def _machine_warnings(cores: int, threads: int, others: float | None) -> Iterator[str]:
    if threads > cores:
        yield f"{threads} threads were asked for and this process may use {cores} cores"
    if too_busy(others):
        yield f"other processes used {others:.2f} of {cores} cores while this was timed: latencies may be too high"


def _timing_warnings(timing: Interleaved) -> Iterator[str]:
    for name in timing.unsettled:
        yield f"{name} had not settled at the end of its warm-up: its first samples may be too high"
    for name, latency in timing.latencies().items():
        change = timing.drift(name) - 1
        if abs(change) > NOTABLE_DRIFT:
            how = "slower" if change > 0 else "faster"
            yield f"{name} became {abs(change):.0%} {how} while it was timed (throttling, or other load)"
        if latency.p95 is None:
            yield f"{name} was timed {latency.n} times, too few for a p95 (200): time it longer"


def _face_warnings(faces: FaceSet) -> Iterator[str]:
    if faces.picked in CHOOSING_SPLITS:
        yield f"{faces.origin} are faces that train or choose networks: an accuracy on them is flattered"
