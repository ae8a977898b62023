"""Training where there is a second device: nothing stays behind on the CPU, and all generators are kept."""

import pytest
import torch
from click.testing import CliRunner

from edgefer.cli.make import train as command
from edgefer.errors import EdgeferError
from edgefer.models import create, default_contract
from edgefer.models.deployable import Deployable
from edgefer.training import degrade, loop, train
from edgefer.training.augment import augment, mix
from edgefer.training.learner import Learner, on_device
from edgefer.training.loop import random_states, set_random_states, state_path
from edgefer.training.losses import Teachers
from tests.one_device import OneDevice

from .conftest import quick
from .test_resume import stop_after

LABELS = tuple("abcdefg")
META, CUDA = torch.device("meta"), torch.device("cuda", 0)


def batch(size=48):
    return torch.empty((6, size, size, 1), dtype=torch.uint8, device=META)


def test_augmentation_stays_on_the_device():
    with OneDevice():
        seen = augment(batch(), 1.0, erasing=0.5, noise=0.2, crop=0.3)
        changed, others, share = mix(seen, 0.3)
    assert (seen.device, changed.device, others.device) == (META, META, META)
    assert mix(seen, 0.0)[1].device == META
    assert 0 <= share <= 1


def test_each_degradation_stays_on_the_device():
    x = batch().float()
    for change in ("blur", "resolution", "gamma", "noise", "jpeg"):
        with OneDevice():
            out = getattr(degrade, f"_random_{change}")(x)
        assert (out.device, out.shape) == (META, x.shape), change


@pytest.mark.parametrize("name", ["mini_xception", "ddamfn", "repvgg_small"])
def test_a_step_has_everything_on_the_device(name):
    contract = default_contract(name, LABELS)
    teachers = Teachers([Deployable(create("mini_xception"), default_contract("mini_xception", LABELS))], 2.0)
    given = teachers if name == "mini_xception" else None
    config = quick(mixup=0.3, erasing=0.2, noise=0.1, crop=0.2, precision="bf16").resolved(name)
    learner = Learner(create(name), contract, config, torch.ones(7), given, META)
    faces = torch.empty((6, *contract.face_shape), dtype=torch.uint8)
    targets = torch.empty((6, 7))
    moved = [on_device(part, META) for part in (faces, torch.zeros(6, dtype=torch.int64), targets)]
    learner.device = torch.device("cpu")  # autocast does not know the meta device; nothing else is asked of it
    with OneDevice():
        loss, logits = learner.loss_of(*moved, None if given else moved[2])
        loss.backward()
        learner._update_average()
    assert (loss.device, logits.device) == (META, META)
    grads = [parameter.grad for parameter in learner.module.parameters() if parameter.grad is not None]
    assert grads
    assert {grad.device for grad in grads} == {META}


def test_batches_reach_a_gpu_from_page_locked_memory():
    class Part:
        """A fake of a tensor: it says how it was moved."""

        locked = False

        def pin_memory(self):
            self.locked = True
            return self

        def to(self, device, non_blocking):
            return (self.locked, device, non_blocking)

    assert on_device(Part(), CUDA) == (True, CUDA, True)


def test_all_generators_are_kept_and_set_again(monkeypatch, capsys):
    kept = {}
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.tensor([7]))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: kept.update({device: state}))
    with torch.random.fork_rng(devices=[]):
        states = random_states(CUDA)
        wanted = torch.rand(3)
        set_random_states(states["rng"], states["gpu_rng"], CUDA)
        assert torch.equal(torch.rand(3), wanted)
        assert {device: state.tolist() for device, state in kept.items()} == {CUDA: [7]}
        assert not capsys.readouterr().err
        set_random_states(states["rng"], None, CUDA)
        assert "began on another device than cuda:0" in capsys.readouterr().err
        assert random_states(torch.device("cpu"))["gpu_rng"] is None


def test_a_run_that_began_on_a_gpu_goes_on_here(faces, tmp_path, monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    output = tmp_path / "w.safetensors"
    monkeypatch.setattr(loop, "random_states", lambda _: {"rng": torch.get_rng_state(), "gpu_rng": torch.tensor([7])})
    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stop_after(stopped, 9, interrupt)
        train(faces, "lenet", output, quick(checkpoint_seconds=0.0))
    assert state_path(output).exists()
    assert train(faces, "lenet", output, quick(checkpoint_seconds=0.0)).epochs == 3
    assert "the run began on another device than cpu" in capsys.readouterr().err


def test_memory_that_ran_out_is_said(faces, tmp_path, monkeypatch):
    def full():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore")

    stop_after(monkeypatch, 2, full)
    with pytest.raises(EdgeferError, match="the memory of cpu ran out: CUDA out of memory") as error:
        train(faces, "lenet", tmp_path / "w.safetensors", quick())
    assert "--batch" in error.value.hint


def test_a_gpu_that_has_bf16_trains_in_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device", lambda _: torch.random.fork_rng(devices=[]))
    for has, precision in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=has: has)
        assert loop._usual_precision(CUDA) == precision
    assert loop._usual_precision(torch.device("cpu")) == "fp32"


@pytest.mark.parametrize("asked", ["cuda", "gpu"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_written(faces, tmp_path, monkeypatch, asked):
    monkeypatch.setattr(torch.version, "cuda", None)
    output = tmp_path / "w.safetensors"
    options = ["--model", "lenet", "--data", faces.origin, "-o", str(output), "--device", asked]
    result = CliRunner().invoke(command, options)
    said = "needs a PyTorch with CUDA" if asked == "cuda" else "there is no device 'gpu'"
    assert said in str(result.exception)
    assert not list(tmp_path.iterdir())
