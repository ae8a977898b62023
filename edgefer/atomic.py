"""Files that are either whole or absent: written beside their final name, then renamed."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgefer.errors import EdgeferError
from edgefer.progress import announce

_DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EISDIR)


def make_folder(folder: Path) -> None:
    """Make ``folder``, and what is above it, where it is not there; a folder that was made is named.

    Raises:
        OSError: it cannot be made, or is no folder.
    """
    there = folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    if not there:
        announce(f"made the folder {folder}")


@contextmanager
def atomic_path(final: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``final``; rename it onto ``final`` if the block succeeds.

    The temporary keeps the suffix of ``final`` (libraries choose formats by it). On any exception, Ctrl-C included,
    it is removed and ``final`` stays as it was. After a SIGKILL only a dot-file is left, never a partial ``final``.

    Raises:
        EdgeferError: the folder cannot be made or written, the disk is full, or ``final`` is there and no regular file.
    """
    target = Path(os.path.realpath(final))  # a link is followed: what it points to is replaced, the link stays
    if target.exists() and not target.is_file():
        raise EdgeferError(f"cannot write {final}: it is there and is not a regular file", hint="choose another path")
    try:
        make_folder(target.parent)
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=f".partial{target.suffix}", dir=target.parent)
    except OSError as cause:
        raise _cannot_write(target, cause) from cause
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as cause:
        if cause.errno not in _DISK_FAULTS:
            raise
        raise _cannot_write(target, cause) from cause
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(final: str | os.PathLike[str]) -> None:
    """Refuse, before minutes of work and without a trace, a path that :func:`atomic_path` will not be able to write.

    Raises:
        EdgeferError: ``final`` is there and no regular file, or nothing can be made in its folder.
    """
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
    try:
        make_folder(target.parent)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    except OSError as cause:
        raise _cannot_write(target, cause) from cause
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        temporary.replace(target)
    except OSError as cause:
        if cause.errno not in (*_DISK_FAULTS, errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise _cannot_write(target, cause) from cause
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_vacant(folder: str | os.PathLike[str]) -> None:
    """Refuse a path at which a folder cannot be made without losing something.

    Raises:
        EdgeferError: it is a file, or a folder with something in it.
    """
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


def sha256_file(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
