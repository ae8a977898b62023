"""Files that are either whole or absent: written beside their final name, then renamed.

What a killed process left beside a name (``.x.….partial.onnx``) is removed by the next one that writes that name.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not POSIX: then nothing is locked, and nothing is swept
    fcntl = None  # type: ignore[assignment]

from edgefer.errors import EdgeferError
from edgefer.limits import name_fault
from edgefer.progress import announce

_DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EISDIR)
_MOMENT = 60.0  # seconds after which a partial that nobody holds is nobody's: it is locked right after it is made


def make_folder(folder: Path) -> None:
    """Make ``folder``, and what is above it, where it is not there; a folder that was made is named.

    Raises:
        OSError: it cannot be made, or is no folder.
    """
    there = folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    if not there:
        announce(f"made the folder {folder}")


_ROOM = 32
"""Bytes that temporary files' and manifests' names have beyond that of the file."""


def _refuse_name(final: str | os.PathLike[str]) -> None:
    text = os.fspath(final)
    fault = name_fault(text, _ROOM)
    if fault:
        shown = text if len(text) <= 60 else f"{text[:40]}…{text[-16:]}"
        raise EdgeferError(f"cannot write '{shown}': the name {fault}", hint="choose another path")


@contextmanager
def atomic_path(final: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``final``; rename it onto ``final`` if the block succeeds.

    The temporary keeps the suffix of ``final`` (libraries choose formats by it). On any exception, Ctrl-C included,
    it is removed and ``final`` stays as it was. After a SIGKILL only a dot-file is left, never a partial ``final``.

    Raises:
        EdgeferError: the folder cannot be made or written, the disk is full, or ``final`` is there and no regular file.
    """
    _refuse_name(final)
    target = Path(os.path.realpath(final))  # a link is followed: what it points to is replaced, the link stays
    if target.exists() and not target.is_file():
        raise EdgeferError(f"cannot write {final}: it is there and is not a regular file", hint="choose another path")
    try:
        make_folder(target.parent)
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=f".partial{target.suffix}", dir=target.parent)
    except OSError as cause:
        raise _cannot_write(target, cause) from cause
    temporary = Path(name)
    try:
        _hold(handle)
        _sweep(target.parent, f".{glob.escape(target.stem)}.*.partial{glob.escape(target.suffix)}")
        yield temporary
        _sync(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
        _sync(target.parent)
    except OSError as cause:
        if cause.errno not in _DISK_FAULTS:
            raise
        raise _cannot_write(target, cause) from cause
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def check_writable(final: str | os.PathLike[str]) -> None:
    """Refuse, before minutes of work and without a trace, a path that :func:`atomic_path` will not be able to write.

    Raises:
        EdgeferError: ``final`` is there and no regular file, or nothing can be made in its folder.
    """
    _refuse_name(final)
    target = Path(os.path.realpath(final))
    if target.exists() and not target.is_file():
        raise EdgeferError(f"cannot write {final}: it is there and is not a regular file", hint="choose another path")
    folder = next(parent for parent in target.parents if parent.exists())
    if not folder.is_dir():
        raise _cannot_write(target, NotADirectoryError(errno.ENOTDIR, f"{folder} is not a folder"))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _cannot_write(target, PermissionError(errno.EACCES, f"no permission to write in {folder}"))


@contextmanager
def atomic_folder(final: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder beside ``final``; rename it onto ``final`` if the block succeeds.

    On any exception, Ctrl-C included, all that was written is removed and ``final`` stays as it was.

    Raises:
        EdgeferError: ``final`` is there and is not an empty folder, it cannot be made or written, or the disk is full.
    """
    target = Path(os.path.realpath(final))
    check_vacant(target)
    with partial_folder(target) as temporary:
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            _sync(path)
        temporary.replace(target)
        _sync(target.parent)


@contextmanager
def partial_folder(final: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``final``, which is removed after the block unless it was renamed.

    Raises:
        EdgeferError: it cannot be made, ``final`` is there and not empty, or the disk is full.
    """
    final = Path(os.path.realpath(final))
    try:
        make_folder(final.parent)
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".partial", dir=final.parent))
    except OSError as cause:
        raise _cannot_write(final, cause) from cause
    handle = os.open(temporary, os.O_RDONLY)
    try:
        _hold(handle)
        temporary.chmod(0o777 & ~_umask())
        _sweep(final.parent, f".{glob.escape(final.name)}.*.partial")
        yield temporary
    except OSError as cause:
        if cause.errno not in (*_DISK_FAULTS, errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise _cannot_write(final, cause) from cause
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(handle)


def check_vacant(folder: str | os.PathLike[str]) -> None:
    """Refuse a path at which a folder cannot be made without losing something.

    Raises:
        EdgeferError: it is a file, or a folder with something in it.
    """
    _refuse_name(folder)
    target = Path(folder)
    if not target.exists():
        return
    if not target.is_dir():
        raise EdgeferError(f"{folder} is there and is not a folder", hint="choose another path")
    if any(target.iterdir()):
        raise EdgeferError(f"{folder} is there and is not empty", hint="choose another path, or empty it")


def write_bytes(final: str | os.PathLike[str], content: bytes | memoryview) -> None:
    """Write ``content`` to ``final`` atomically."""
    with atomic_path(final) as temporary:
        temporary.write_bytes(content)


def write_text(final: str | os.PathLike[str], content: str) -> None:
    """Write ``content`` to ``final`` atomically, as UTF-8."""
    write_bytes(final, content.encode("utf-8"))


def write_pair(
    final: str | os.PathLike[str],
    content: bytes,
    describing: str | os.PathLike[str],
    description: str,
    folder: tuple[Path, Path] | None = None,
) -> None:
    """Write ``content`` to ``final`` and ``description``, which holds its SHA-256, to ``describing``, as one step.

    The content is first written whole as ``final.<first eight digits of its SHA-256>``, then the description is
    renamed, which is the step that counts, then the content. Wherever that is cut off, :func:`described_file` finds the
    content that belongs to the description. Of processes that write one name at once, one after the other does all.

    Args:
        final: the path of the content; a link is followed.
        content: the bytes.
        describing: the path of the description.
        description: a text that holds the content's SHA-256 in hexadecimal digits.
        folder: a folder of :func:`partial_folder` that belongs to them, and its place; found by
            :func:`described_folder`.

    Raises:
        EdgeferError: as :func:`atomic_path`.
    """
    check_writable(final)
    target, text = Path(os.path.realpath(final)), Path(describing)
    digits = hashlib.sha256(content).hexdigest()
    moves = [(_staged(target, digits), target)]
    if folder is not None:
        moves.append((_staged(folder[1], digits), folder[1]))
    try:
        make_folder(target.parent)
    except OSError as cause:
        raise _cannot_write(target, cause) from cause
    with _alone_in(target.parent):
        try:
            write_bytes(moves[0][0], content)
            if folder is not None and folder[0] != moves[1][0]:
                _remove(moves[1][0])
                folder[0].replace(moves[1][0])
            write_text(text, description)
        except BaseException:
            if not text.is_file() or digits not in text.read_text(encoding="utf-8", errors="replace"):
                _remove(moves[0][0])
                if folder is not None and not folder[0].exists():
                    moves[1][0].replace(folder[0])  # the old description may need it
            raise
        for staged, place in moves:
            if place.is_dir():
                _remove(place)
            staged.replace(place)
        _sync(target.parent)
        for _, place in moves:
            _remove_stale(place)
        _sweep(target.parent, f".{glob.escape(target.name)}.*.partial.????????")


def described_file(final: str | os.PathLike[str], sha256: str) -> Path | None:
    """The file with this SHA-256: ``final``, or what a cut-off :func:`write_pair` left beside it; None: neither."""
    path = Path(final)
    for candidate in (path, _staged(Path(os.path.realpath(path)), sha256)):
        if candidate.is_file() and sha256_file(candidate) == sha256:
            return candidate
    return None


def described_folder(place: Path, sha256: str) -> Path:
    """The folder that belongs to what has this SHA-256: ``place``, or what a cut-off :func:`write_pair` left."""
    staged = _staged(place, sha256)
    return staged if staged.is_dir() else place


def _staged(place: Path, sha256: str) -> Path:
    return place.with_name(f"{place.name}.{sha256[:8]}")


def _remove_stale(place: Path) -> None:
    """Remove what writers that were killed before their step staged for ``place``; the living wait for their turn."""
    for stale in place.parent.glob(f"{glob.escape(place.name)}.????????"):
        digits = stale.suffix[1:]
        held = [path for path in stale.iterdir() if path.is_file()] if stale.is_dir() else [stale]
        # a date is eight such digits too: what was staged for a content has it
        if re.fullmatch("[0-9a-f]{8}", digits) and any(sha256_file(path).startswith(digits) for path in held):
            _remove(stale)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sha256_file(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Make a file or the names in a folder last through a loss of power."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as cause:
        if cause.errno != errno.EINVAL or not path.is_dir():  # some network file systems cannot do it for folders
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process of this machine writes a pair in ``folder``; a killed one is no other any more."""
    key = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    try:
        place = Path(tempfile.gettempdir(), f".edgefer-{os.getuid()}-{key}.lock")
        handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except (OSError, AttributeError):  # no room, or not POSIX
        yield
        return
    try:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                announce(f"waiting for another process that writes in {folder}")
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _hold(handle: int) -> None:
    """Mark a partial as being written until ``handle`` is closed, which the death of this process does too."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sweep(folder: Path, pattern: str) -> None:
    """Remove the partials that killed processes left."""
    if fcntl is None:
        return
    for path in folder.glob(pattern):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime < _MOMENT:
                continue
            handle = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where it is being written
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            finally:
                os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _cannot_write(target: Path, cause: OSError) -> EdgeferError:
    full = cause.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "free some disk space, or choose another output path" if full else "choose another output path"
    return EdgeferError(
        f"cannot write {target}: {cause.strerror or cause}", hint=f"{hint}; nothing was left under that name"
    )
