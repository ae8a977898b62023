import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgefer.atomic import (
    atomic_folder,
    atomic_path,
    check_vacant,
    check_writable,
    sha256_file,
    write_bytes,
    write_text,
)
from edgefer.errors import EdgeferError


def test_writes_whole_with_ordinary_permissions(tmp_path, capsys):
    write_text(tmp_path / "new" / "a.txt", "é")
    assert capsys.readouterr().err == f"made the folder {tmp_path / 'new'}\n"
    assert (tmp_path / "new" / "a.txt").read_bytes() == "é".encode()
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "new" / "a.txt").stat().st_mode & 0o777 == 0o666 & ~mask
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_a_place_that_cannot_be_written_is_refused_beforehand(tmp_path):
    (tmp_path / "file").write_text("x")
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "new" / "folder" / "a.html")
    assert not (tmp_path / "new").exists(), "looking leaves nothing behind"
    with pytest.raises(EdgeferError, match="is not a regular file"):
        check_writable(tmp_path)
    with pytest.raises(EdgeferError, match="file is not a folder"):
        check_writable(tmp_path / "file" / "a.html")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if not os.access(locked, os.W_OK):  # root may write anywhere
        with pytest.raises(EdgeferError, match="no permission to write in .*locked"):
            check_writable(locked / "a.html")


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file(tmp_path, fault):
    write_bytes(tmp_path / "a.bin", b"old")
    with pytest.raises(fault), atomic_path(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"half")
        raise fault
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_one_clear_error(tmp_path):
    with (
        pytest.raises(EdgeferError, match="cannot write .*a.bin: No space left") as fault,
        atomic_path(tmp_path / "a.bin"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "free some disk space" in fault.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_really_full_disk(small_disk):
    disk = small_disk(64)
    write_bytes(disk / "a.bin", b"old")
    with pytest.raises(EdgeferError, match="No space left"):
        write_bytes(disk / "a.bin", b"x" * 500_000)
    assert (disk / "a.bin").read_bytes() == b"old"
    assert [p.name for p in disk.iterdir()] == ["a.bin"]


def test_a_folder_that_cannot_be_made(tmp_path):
    write_bytes(tmp_path / "file", b"")
    with pytest.raises(EdgeferError, match="cannot write"):
        write_bytes(tmp_path / "file" / "a.bin", b"")


def test_sigkill_leaves_no_half_file_under_the_name(tmp_path):
    script = (
        "import os, signal, sys\n"
        "from edgefer.atomic import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.bin")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "a.bin").exists()


def test_sha256(tmp_path: Path):
    write_bytes(tmp_path / "a", b"abc")
    assert sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_appears_whole(tmp_path, exists):
    target = tmp_path / "deep" / "folder"
    if exists:
        target.mkdir(parents=True)
    with atomic_folder(target) as temporary:
        (temporary / "a.txt").write_text("a")
        assert not target.exists() or not any(target.iterdir())
    assert [path.name for path in target.parent.iterdir()] == ["folder"]
    assert (target / "a.txt").read_text() == "a"
    mask = os.umask(0)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o777 & ~mask


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_a_folder_that_fails_leaves_nothing(tmp_path, fault):
    with pytest.raises(fault), atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "a.txt").write_text("half")
        raise fault
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_never_replaced(tmp_path):
    target = tmp_path / "folder"
    with pytest.raises(EdgeferError, match="cannot write"), atomic_folder(target) as temporary:
        (temporary / "a.txt").write_text("new")
        target.mkdir()  # somebody else was quicker
        (target / "theirs.txt").write_text("old")
    assert [path.name for path in target.iterdir()] == ["theirs.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    with pytest.raises(EdgeferError, match="is not empty"):
        check_vacant(target)


def test_a_full_disk_leaves_no_folder(tmp_path):
    with pytest.raises(EdgeferError, match="No space left"), atomic_folder(tmp_path / "folder"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []
