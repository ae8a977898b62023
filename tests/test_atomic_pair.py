"""A file and what describes it: whatever stops the writing, the old pair or the new one can be used."""

import inspect
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

from edgefer import atomic
from edgefer.atomic import described_file, described_folder, partial_folder, write_bytes, write_pair
from edgefer.errors import EdgeferError

KILLS = int(os.environ.get("EDGEFER_KILLS", "50"))


def put(folder: Path, content: bytes) -> None:
    digits = sha256(content).hexdigest()
    with partial_folder(folder / "x.candidates") as fresh:
        (fresh / "of").write_text(digits)
        (fresh / "a.onnx").write_bytes(content)
        place = fresh, folder / "x.candidates"
        write_pair(folder / "x.onnx", content, folder / "x.onnx.json", json.dumps(digits), place)


WRITER = f"""
import json, random, sys
from hashlib import sha256
from pathlib import Path
from edgefer.atomic import partial_folder, write_pair

{inspect.getsource(put)}
folder, generator = Path(sys.argv[1]), random.Random(sys.argv[2])
print("ready", flush=True)
while True:
    put(folder, generator.randbytes(generator.choice((10, 10_000, 3_000_000))))
"""


def get(folder: Path) -> bytes | None:
    """The content that the description describes, with its folder; None: there is no pair yet."""
    if not (folder / "x.onnx.json").exists():
        return None
    digits = json.loads((folder / "x.onnx.json").read_text())
    found = described_file(folder / "x.onnx", digits)
    assert found is not None, sorted(path.name for path in folder.iterdir())
    assert (described_folder(folder / "x.candidates", digits) / "of").read_text() == digits
    return found.read_bytes()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


SETTLED = {"x.onnx", "x.onnx.json", "x.candidates"}


def test_a_pair_replaces_a_pair(tmp_path):
    for content in (b"old", b"new", b"new"):
        put(tmp_path, content)
        assert get(tmp_path) == (tmp_path / "x.onnx").read_bytes() == content
        assert names(tmp_path) == SETTLED


def test_a_relative_place_and_one_behind_a_link(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path / "real")
    for place in (Path(), tmp_path / "link"):
        with partial_folder(place / "x.candidates") as fresh:
            write_pair(fresh / "a.onnx", b"inner", fresh / "a.onnx.json", sha256(b"inner").hexdigest())
        put(place, b"outer")
        assert get(tmp_path / "real") == b"outer"


def test_what_only_looks_like_a_stale_part_stays(tmp_path):
    put(tmp_path, b"old")
    shutil.copytree(tmp_path / "x.candidates", tmp_path / "x.candidates.20261129")
    (tmp_path / "x.onnx.20261129").mkdir()
    (tmp_path / "x.onnx.20261128").write_bytes(b"a copy")
    put(tmp_path, b"new")
    assert names(tmp_path) == {*SETTLED, "x.candidates.20261129", "x.onnx.20261129", "x.onnx.20261128"}


def test_the_target_of_a_link_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "x.onnx").symlink_to(tmp_path / "real" / "y.onnx")
    digits = sha256(b"new").hexdigest()
    write_pair(tmp_path / "x.onnx", b"new", tmp_path / "real" / "y.onnx.json", digits)
    assert (tmp_path / "x.onnx").is_symlink()
    assert described_file(tmp_path / "x.onnx", digits) == tmp_path / "x.onnx"
    (tmp_path / "real" / "y.onnx").rename(tmp_path / "real" / f"y.onnx.{digits[:8]}")  # as if it had been cut off
    assert described_file(tmp_path / "x.onnx", digits) == tmp_path / "real" / f"y.onnx.{digits[:8]}"


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fault_at_any_rename_leaves_the_old_pair_or_the_new(tmp_path, monkeypatch, fault, when):
    replace, count, step = Path.replace, 0, 0

    def faulty(self, target):
        nonlocal count
        count += 1
        if count == step and when == "before":
            raise fault(5, "planted")
        replace(self, target)
        if count == step and when == "after":
            raise fault(5, "planted")

    put(tmp_path, b"old")
    monkeypatch.setattr(Path, "replace", faulty)
    seen = set()
    for step in range(1, 20):
        count, content = 0, f"new {step}".encode()
        before = get(tmp_path)
        try:
            put(tmp_path, content)
        except (KeyboardInterrupt, EdgeferError, OSError):
            found = get(tmp_path)
            assert found in (before, content)
            seen.add(found == content)
        else:
            break  # fewer renames than that
    assert step > 4, "it renames the content twice, the description and the folder"
    assert seen == {False, True}
    step = 0
    put(tmp_path, b"last")
    assert get(tmp_path) == b"last"
    assert names(tmp_path) == SETTLED, "what was left is swept"


def test_a_folder_that_the_old_pair_needs_survives_a_failure(tmp_path, monkeypatch):
    put(tmp_path, b"old")
    staged = tmp_path / f"x.candidates.{sha256(b'old').hexdigest()[:8]}"
    (tmp_path / "x.candidates").rename(staged)  # as if it had been cut off

    def full(*_):
        raise EdgeferError("no room")

    monkeypatch.setattr(atomic, "write_text", full)
    digits = sha256(b"new").hexdigest()
    with pytest.raises(EdgeferError, match="no room"):
        write_pair(tmp_path / "x.onnx", b"new", tmp_path / "x.onnx.json", digits, (staged, tmp_path / "x.candidates"))
    assert get(tmp_path) == b"old"


def kill_writers(folder: Path, kills: int) -> None:
    generator = random.Random(0)
    for number in range(kills):
        command = [sys.executable, "-c", WRITER, str(folder), str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(generator.random() * 0.1)
            process.send_signal(signal.SIGKILL)
        get(folder)
    assert get(folder) is not None
    for path in folder.glob(".*.partial*"):
        os.utime(path, (0, 0))  # a minute later
    put(folder, b"last")
    assert names(folder) == SETTLED


def test_kills(tmp_path):
    kill_writers(tmp_path, 5)


@pytest.mark.slow
def test_many_kills(tmp_path):
    kill_writers(tmp_path, KILLS)


def test_of_writers_at_once_each_wins_whole(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(i)], stdout=subprocess.DEVNULL) for i in range(3)]
    try:
        seen, until = set(), time.monotonic() + 20
        while len(seen) < 20 and time.monotonic() < until:
            try:
                seen.add(get(tmp_path))
            except (AssertionError, FileNotFoundError):  # replaced between two of our looks
                continue
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert len(seen) > 5
    assert get(tmp_path) is not None


def test_a_full_disk_keeps_the_old_pair(small_disk):
    disk, refused = small_disk(256), 0

    def held():
        return sum(path.stat().st_size for path in disk.rglob("*") if path.is_file())

    put(disk, b"old")
    for size in (20_000, 50_000, 90_000, 200_000, 300_000):
        room, before = held(), get(disk)
        try:
            put(disk, bytes([size % 251]) * size)
        except EdgeferError:
            refused += 1
            assert get(disk) == before
            assert held() <= room, "nothing fills it"
    assert 1 <= refused <= 4
    put(disk, b"small")
    assert get(disk) == b"small"
    assert names(disk) == SETTLED


def test_a_partial_of_the_living_stays_and_of_the_dead_goes(tmp_path):
    with atomic.atomic_path(tmp_path / "x.onnx") as living:
        dead = tmp_path / ".x.gone.partial.onnx"
        other = tmp_path / ".y.gone.partial.onnx"
        for path in (dead, other, living):
            path.write_bytes(b"half")
            os.utime(path, (0, 0))
        write_bytes(tmp_path / "x.onnx", b"whole")
        assert names(tmp_path) == {living.name, other.name, "x.onnx"}
