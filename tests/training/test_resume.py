import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from edgefer.errors import EdgeferError
from edgefer.training import loop, train
from edgefer.training.loop import state_path

from .conftest import quick, synthetic

LONG = {"epochs": 12, "batch_size": 16, "erasing": 0.2}

RUN = """
import sys
from pathlib import Path
from edgefer.data import open_dataset
from edgefer.training import TrainConfig, train
config = TrainConfig(epochs=12, batch_size=16, erasing=0.2, lr=3e-3, threads=1, checkpoint_seconds=0.0)
train(open_dataset(sys.argv[1]), "lenet", Path(sys.argv[2]), config)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("synthetic") / "synthetic.npz"
    return path, synthetic(path)


def stop_after(monkeypatch, steps: int, how) -> None:
    """Do ``how`` in the middle of step ``steps`` of the next run."""
    genuine = loop.Learner.step

    def step(self, *args, **kwargs):
        if self.steps + 1 == steps:
            how()
        return genuine(self, *args, **kwargs)

    monkeypatch.setattr(loop.Learner, "step", step)


def epochs_done(output: Path) -> int:
    path = state_path(output)
    return torch.load(path, weights_only=True)["state"]["epoch"] if path.exists() else 0


def test_kill_in_the_middle_of_an_epoch(data, tmp_path):
    path, faces = data
    whole = train(faces, "lenet", tmp_path / "whole.safetensors", quick(**LONG))
    output = tmp_path / "killed.safetensors"
    process = subprocess.Popen([sys.executable, "-c", RUN, str(path), str(output)], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while epochs_done(output) < 3 and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    assert 3 <= epochs_done(output) < 12
    resumed = train(faces, "lenet", output, quick(**LONG))
    assert resumed.curve == whole.curve
    assert output.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert not state_path(output).exists()


def test_ctrl_c_saves_the_state_and_leaves_no_half_files(data, tmp_path, monkeypatch):
    _, faces = data
    steps = len(faces.split("fit")) // 32
    whole = train(faces, "mini_xception", tmp_path / "whole.safetensors", quick())
    output = tmp_path / "w.safetensors"
    with monkeypatch.context() as patch:
        stop_after(patch, steps + 2, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            train(faces, "mini_xception", output, quick())
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["w.safetensors", "w.safetensors.state", "whole.safetensors"]
    state = torch.load(state_path(output), weights_only=True)["state"]
    assert (state["epoch"], state["step"]) == (1, 2)
    resumed = train(faces, "mini_xception", output, quick())
    assert resumed.curve == whole.curve
    assert output.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


@pytest.fixture
def interrupted(data, tmp_path, monkeypatch):
    output = tmp_path / "w.safetensors"
    with monkeypatch.context() as patch:
        stop_after(patch, 3, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            train(data[1], "lenet", output, quick())
    return output


def refused(*args, **kwargs) -> EdgeferError:
    with pytest.raises(EdgeferError) as caught:
        train(*args, **kwargs)
    return caught.value


def test_before_the_first_evaluation_there_are_no_weights(interrupted):
    assert not interrupted.exists()


def test_another_setting(data, interrupted):
    error = refused(data[1], "lenet", interrupted, quick(lr=1e-2, epochs=4))
    assert "is the state of another run: epochs was 3 and is 4; lr was 0.003 and is 0.01" in error.message
    assert "--fresh" in error.hint
    assert state_path(interrupted).exists()


def test_another_network(data, interrupted):
    assert "model was lenet and is mini_xception" in refused(data[1], "mini_xception", interrupted, quick()).message


def test_other_faces(tmp_path, interrupted):
    faces = synthetic(tmp_path / "others.npz", seed=9)
    message = refused(faces, "lenet", interrupted, quick()).message
    assert "fit faces was " in message
    assert "val faces was " in message
    assert "lr was" not in message


def test_what_does_not_change_the_run_may_differ(data, interrupted):
    result = train(data[1], "lenet", interrupted, quick(checkpoint_seconds=7.0))
    assert result.epochs == 3


def test_fresh_starts_again(data, interrupted, capsys):
    train(data[1], "lenet", interrupted, quick(lr=1e-2), resume=False)
    assert "going on" not in capsys.readouterr().err
    assert not state_path(interrupted).exists()


def test_going_on_is_announced(data, interrupted, capsys):
    train(data[1], "lenet", interrupted, quick())
    assert "at epoch 1, step 4" in capsys.readouterr().err


@pytest.mark.parametrize("keep", [0, 100, 0.7])
def test_a_damaged_state(data, interrupted, keep):
    path = state_path(interrupted)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    error = refused(data[1], "lenet", interrupted, quick())
    assert f"the state of an earlier run, {path}, cannot be read" in error.message
    assert "--fresh" in error.hint


def test_a_state_of_another_format(data, interrupted):
    path = state_path(interrupted)
    content = torch.load(path, weights_only=True)
    torch.save({**content, "format": 99}, path)
    assert "another version of edgefer (format 99)" in refused(data[1], "lenet", interrupted, quick()).message


def test_states_are_written_now_and_then(data, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(loop, "save_state", lambda *args: saved.append(args))
    train(data[1], "lenet", tmp_path / "a.safetensors", quick(epochs=2))
    assert saved == []
    monkeypatch.setattr(loop, "_SAVING_SHARE", 1e9)
    train(data[1], "lenet", tmp_path / "b.safetensors", quick(epochs=2, checkpoint_seconds=0.0))
    assert len(saved) == 2 * (len(data[1].split("fit")) // 32)
