"""Predictions of large sets: over several processes, and going on where an interrupted run stopped."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefer.atomic import atomic_path, make_folder
from edgefer.errors import EdgeferError
from edgefer.interrupts import die_with_parent
from edgefer.limits import check_whole
from edgefer.measure.accuracy import Predictions, columns_of, hash_numbers, numbered
from edgefer.progress import Advance, announce, progress

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

    from edgefer.data import FaceSet
    from edgefer.engines.classifier import Classifier

CHUNK = 2048
"""Faces that are computed, handed over and kept as one piece."""

Logits = NDArray[np.float32]
Opener = Callable[[], "Classifier"]


def evaluate(
    classifier: Classifier,
    faceset: FaceSet,
    *,
    batch_size: int = 64,
    processes: int = 1,
    reopen: Opener | None = None,
    cache: Cache | None = None,
) -> Predictions:
    """Run ``classifier`` over all faces; what is held in memory is a chunk of faces and 4 bytes a logit.

    Args:
        classifier: the network; it computes the faces itself if there is one process.
        faceset: the faces, decoded as they are needed, in each process for itself. Answers come in the order of its
            classes, which may be another than the network's.
        batch_size: number of faces per call.
        processes: number of processes that share the work; each opens the network by
            ``reopen``, which must be picklable.
        reopen: opens the same network again.
        cache: folder of finished chunks, from which an interrupted run goes on. It is keyed by the
            faces, by an engine's hash and by what the network answers, so that nothing stale is taken. Its owner
            empties it.

    Raises:
        EdgeferError: the face set is empty, its classes have other names than the classifier's, a process died, or
            the cache cannot be written.
    """
    if len(faceset) == 0:
        raise EdgeferError(f"{faceset.origin} has 0 faces: there is nothing to predict", hint="choose another split")
    check_whole("--processes", processes, "processes")
    order = columns_of(classifier.name, classifier.contract.labels, faceset.origin, faceset.classes)
    if order != sorted(order):
        announce(f"note: {classifier.name}: answers brought by name into the order {', '.join(faceset.classes)}")
    chunks = [slice(start, min(start + CHUNK, len(faceset))) for start in range(0, len(faceset), CHUNK)]
    logits = np.empty((len(faceset), len(faceset.classes)), dtype=np.float32)
    kept = None if cache is None else cache.chunks(_identity(classifier, faceset))
    missing = chunks if kept is None else [chunk for chunk in chunks if not kept.take(chunk, logits)]
    if kept is not None and len(missing) < len(chunks):
        announce(f"{classifier.name}: {len(chunks) - len(missing)} of {len(chunks)} chunks were computed before")
    workers = min(processes, len(missing))
    with progress(f"{classifier.name}: predicting", total=len(faceset)) as advance:
        advance(len(faceset) - sum(chunk.stop - chunk.start for chunk in missing))
        if workers > 1 and reopen is not None:
            results = _apart(reopen, faceset, batch_size, missing, workers, advance)
        else:
            results = ((chunk, _chunk_logits(classifier, faceset, batch_size, chunk, advance)) for chunk in missing)
        for chunk, values in results:
            logits[chunk] = values
            if kept is not None:
                kept.put(chunk, values)
    labels = np.asarray(faceset.labels, dtype=np.int64)
    groups, hashes = numbered(faceset.group_keys()), hash_numbers(faceset.face_hashes())
    classes = tuple(faceset.classes)
    return Predictions(logits[:, order], labels, classes, faceset.fingerprint(), classifier.name, groups, hashes)


def _chunk_logits(
    classifier: Classifier, faceset: FaceSet, batch_size: int, chunk: slice, advance: Advance | None = None
) -> Logits:
    part = faceset.subset(np.arange(chunk.start, chunk.stop))
    logits = np.empty((len(part), len(faceset.classes)), dtype=np.float32)
    done = 0
    for faces, _ in part.batches(batch_size, classifier.contract):
        logits[done : done + len(faces)] = classifier.logits_of_all(faces)
        done += len(faces)
        if advance is not None:
            advance(len(faces))
    if done != len(part):
        raise EdgeferError(f"{faceset.origin}: {done} of {len(part)} faces could be read")
    return logits


_worker: tuple[Classifier, FaceSet, int] | None = None


def _start(reopen: Opener, faceset: FaceSet, batch_size: int) -> None:
    die_with_parent()
    global _worker  # noqa: PLW0603 - a worker process opens its network once, for all its chunks
    _worker = (reopen(), faceset, batch_size)


def _work(chunk: slice) -> Logits:
    if _worker is None:
        raise RuntimeError("a worker computes only after its start")
    return _chunk_logits(*_worker, chunk)


def _apart(
    reopen: Opener, faceset: FaceSet, batch_size: int, chunks: list[slice], workers: int, advance: Advance
) -> Iterator[tuple[slice, Logits]]:
    """Chunks as they are finished, by processes that share nothing with this one: runtimes do not survive a fork."""
    from concurrent.futures import as_completed  # here: a build evaluates too, and starts without these
    from concurrent.futures.process import BrokenProcessPool

    with _pool(workers, reopen, faceset, batch_size) as pool:
        waiting = {pool.submit(_work, chunk): chunk for chunk in chunks}
        try:
            for done in as_completed(waiting):
                chunk = waiting.pop(done)
                yield chunk, done.result()
                advance(chunk.stop - chunk.start)
        except BrokenProcessPool as cause:
            raise EdgeferError(
                f"one of the {workers} processes that predict {faceset.origin} died",
                hint="if memory ran out, use fewer: --processes 1; with --cache FOLDER finished chunks are kept",
            ) from cause


@contextmanager
def _pool(workers: int, reopen: Opener, faceset: FaceSet, batch_size: int) -> Iterator[ProcessPoolExecutor]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(reopen, faceset, batch_size))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _identity(classifier: Classifier, faceset: FaceSet) -> str:
    """The key of chunks: these faces in this order, and the network's answers to the golden faces."""
    from edgefer.faces import golden_faces

    answers = classifier.logits_of_all(golden_faces(classifier.contract))
    told = {
        "faces": faceset.fingerprint(),
        "contract": classifier.contract.to_dict(),
        "engine": None if classifier.manifest is None else classifier.manifest.engine_sha256,
        "runtime": [classifier.runtime, classifier.runtime_version, classifier.precision],
        "answers": [[f"{value:.4g}" for value in row] for row in answers.tolist()],
        "chunk": CHUNK,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


class Cache:
    """A folder of finished chunks, for networks that are evaluated one after the other.

    Args:
        folder: made where it is not there; nothing in it is touched but what was written by a cache.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._used: list[Path] = []

    def chunks(self, identity: str) -> Chunks:
        """Those of one network on one set of faces.

        Raises:
            EdgeferError: the folder cannot be made.
        """
        folder = self._folder / identity
        try:
            make_folder(self._folder)
            folder.mkdir(exist_ok=True)
        except OSError as cause:
            raise EdgeferError(
                f"the cache {self._folder} cannot be used: {cause.strerror or cause}",
                hint="name another folder for --cache",
            ) from cause
        self._used.append(folder)
        return Chunks(folder)

    def clear(self) -> None:
        """Remove the chunks of all networks that were asked for: what they are good for is done."""
        for folder in self._used:
            shutil.rmtree(folder, ignore_errors=True)


class Chunks:
    """Finished chunks on disk, one file each: whole, or not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, chunk: slice) -> Path:
        return self._folder / f"{chunk.start:010d}.npy"

    def put(self, chunk: slice, logits: Logits) -> None:
        """Keep the logits of a chunk."""
        with atomic_path(self._path(chunk)) as temporary:
            np.save(temporary, logits)

    def take(self, chunk: slice, logits: Logits) -> bool:
        """Fill in a chunk that was finished before; False if it was not."""
        try:
            found = np.load(self._path(chunk), allow_pickle=False)
        except (FileNotFoundError, ValueError, EOFError):  # absent, or damaged: it is computed again
            return False
        if found.shape != logits[chunk].shape or found.dtype != np.float32:
            return False
        logits[chunk] = found
        return True
