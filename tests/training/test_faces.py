import tempfile

import pytest
import torch

from edgefer.errors import EdgeferError
from edgefer.training import faces as faces_module
from edgefer.training import train
from edgefer.training.faces import room_for

from .conftest import quick


def test_small_sets_lie_in_memory(capsys):
    assert room_for((3, 4, 4, 1)).shape == (3, 4, 4, 1)
    assert capsys.readouterr().err == ""


def test_training_is_the_same_from_a_file(faces, tmp_path, monkeypatch, capsys):
    first = train(faces, "lenet", tmp_path / "a.safetensors", quick(epochs=1))
    monkeypatch.setattr(faces_module, "available_memory", lambda: 1000)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    second = train(faces, "lenet", tmp_path / "b.safetensors", quick(epochs=1))
    assert first.curve == second.curve
    assert f"they lie in a file in {tmp_path}" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_a_tensor_in_a_file_can_be_written_and_picked_from(monkeypatch):
    monkeypatch.setattr(faces_module, "available_memory", lambda: 0)
    tensor = room_for((5, 2, 2, 1))
    tensor[:] = torch.arange(20, dtype=torch.uint8).view(5, 2, 2, 1)
    assert tensor[torch.tensor([4, 0])].flatten().tolist() == [16, 17, 18, 19, 0, 1, 2, 3]


def test_a_disk_without_room(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(faces_module, "available_memory", lambda: 0)
    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(EdgeferError) as caught:
        room_for((5, 48, 48, 1))
    assert "No space left on device" in caught.value.message
    assert "TMPDIR" in caught.value.hint
