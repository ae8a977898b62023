import hashlib
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import edgefer
from edgefer.contract import Contract, Normalisation
from edgefer.data import open_dataset, save_npz, synthetic_faces
from edgefer.errors import EdgeferError
from edgefer.graph.onnx_file import load_model
from edgefer.models.registry import default_contract
from edgefer.models.weights import load_network, load_weights
from edgefer.training import OwnNetwork, TrainConfig, loop, train
from edgefer.training.beginning import begin
from edgefer.training.faces import prepare_split
from edgefer.training.learner import learning_rate
from edgefer.training.loop import state_path
from edgefer.training.losses import Opinions

from .conftest import quick, synthetic


def refused(*args, **kwargs) -> EdgeferError:
    with pytest.raises(EdgeferError) as caught:
        train(*args, **kwargs)
    return caught.value


def test_the_same_seed_gives_the_same_run_bit_for_bit(faces, tmp_path):
    first = train(faces, "mini_xception", tmp_path / "a.safetensors", quick(epochs=2, erasing=0.2))
    torch.rand(3)  # random numbers of others do not matter
    second = train(faces, "mini_xception", tmp_path / "b.safetensors", quick(epochs=2, erasing=0.2))
    assert first.curve == second.curve
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    other = train(faces, "mini_xception", tmp_path / "c.safetensors", quick(epochs=2, erasing=0.2, seed=1))
    assert other.curve[0]["loss"] != first.curve[0]["loss"]


def test_the_callers_generator_and_threads_are_left_as_they_were(faces, tmp_path):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(faces, "lenet", tmp_path / "w.safetensors", quick(epochs=1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_it_learns(tmp_path):
    faces = synthetic(tmp_path / "faces.npz", 500)
    config = quick(epochs=3, batch_size=16, lr=1e-2, augment=0.5, ema_decay=0.9)
    result = train(faces, "mini_xception", tmp_path / "w.safetensors", config)
    assert result.curve[-1]["loss"] < 0.8 * result.curve[0]["loss"]
    assert result.curve[-1]["loss"] < math.log(7) - 0.1
    assert result.curve[-1]["top1"] > 1.5 / 7
    assert result.epochs == len(result.curve) == 3


def test_what_is_written_is_the_best_epochs_average(faces, tmp_path):
    output = tmp_path / "w.safetensors"
    result = train(faces, "lenet", output, quick(epochs=4))
    network, contract, _ = load_network(output)
    tops = [epoch["val_top1"] for epoch in result.curve]
    assert result.best_val_top1 == max(tops)
    best = result.curve[result.best_epoch - 1]
    assert best["val_loss"] == min(epoch["val_loss"] for epoch in result.curve if epoch["val_top1"] == max(tops))
    val = prepare_split(faces.split("val"), contract)
    from edgefer.models.deployable import Deployable

    with torch.inference_mode():
        right = (Deployable(network, contract).eval()(val.faces).argmax(dim=1) == val.labels).float().mean().item()
    assert right == pytest.approx(result.best_val_top1)
    assert contract.lineage == {
        "fit_sha256": faces.split("fit").fingerprint(),
        "trained_on": "synthetic.npz:fit",
        "seed": "0",
        "edgefer": loop.edgefer.__version__,
        "epochs": "4",
        "best_epoch": str(result.best_epoch),
        "val_top1": f"{result.best_val_top1:.6f}",
    }
    assert not state_path(output).exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.safetensors"]


def test_only_fit_and_val_are_read(faces, tmp_path):
    class Guarded:
        classes, origin = faces.classes, faces.origin

        def require_labels(self, purpose):
            return faces.require_labels(purpose)

        def split(self, name):
            assert name in ("fit", "val"), name
            return faces.split(name)

        def __getattr__(self, name):
            raise AssertionError(f"read .{name} of the whole set")

    train(Guarded(), "lenet", tmp_path / "w.safetensors", quick(epochs=1))


def test_the_schedule_warms_up_and_falls_to_nothing(faces, tmp_path):
    result = train(faces, "lenet", tmp_path / "w.safetensors", quick(epochs=10, warmup=0.3))
    rates = [epoch["lr"] for epoch in result.curve]
    assert rates.index(max(rates)) == 2
    assert max(rates) == pytest.approx(3e-3, rel=0.03)
    assert rates[0] == pytest.approx(1e-3, rel=0.05)
    assert rates[-1] < 1e-5


def test_a_limit_of_time_shortens_the_schedule(faces, tmp_path):
    result = train(faces, "lenet", tmp_path / "w.safetensors", quick(epochs=100_000, max_seconds=1.5))
    assert 1.5 <= result.seconds < 4
    assert result.epochs < 100_000
    assert result.curve[-1]["lr"] < 0.1 * 3e-3
    assert (tmp_path / "w.safetensors").exists()


def test_patience(faces, tmp_path, monkeypatch):
    tops = iter([0.2, 0.5, 0.4, 0.5, 0.5, 0.9])
    monkeypatch.setattr(loop.Learner, "evaluate", lambda self, val: evaluation(next(tops)))
    result = train(faces, "lenet", tmp_path / "w.safetensors", quick(epochs=6, patience=3))
    assert (result.epochs, result.best_epoch) == (5, 2)


def test_of_equal_top1_the_lower_loss_is_kept(faces, tmp_path, monkeypatch):
    results = iter([(0.5, 1.0), (0.5, 0.8), (0.5, 0.9)])
    monkeypatch.setattr(loop.Learner, "evaluate", lambda self, val: evaluation(*next(results)))
    assert train(faces, "lenet", tmp_path / "w.safetensors", quick()).best_epoch == 2


def test_the_lowest_loss_can_be_what_is_kept(faces, tmp_path, monkeypatch):
    results = iter([(0.5, 0.9), (0.4, 0.8), (0.6, 0.85)])
    monkeypatch.setattr(loop.Learner, "evaluate", lambda self, val: evaluation(*next(results)))
    assert train(faces, "lenet", tmp_path / "w.safetensors", quick(keep="loss")).best_epoch == 2


def evaluation(top1: float, loss: float = 1.0):
    from edgefer.training.learner import ValScore

    return ValScore(top1, loss)


def test_a_loss_that_is_no_number_keeps_the_best_so_far(faces, tmp_path, monkeypatch):
    output = tmp_path / "w.safetensors"
    steps = len(faces.split("fit")) // 32
    monkeypatch.setattr(loop, "learning_rate", lambda config, done: 1e-3 if done < 0.34 else 1e30)
    error = refused(faces, "mini_xception", output, quick(optimiser="sgd", clip=None))
    assert error.message.startswith("the training loss became ")
    assert " with learning rate 1e+30" in error.message
    assert int(error.message.split("at step ")[1].split()[0]) > steps
    assert "try a third of the learning rate (lr=0.003 now)" in error.hint
    assert load_network(output)[1].lineage["best_epoch"] == "1"


def test_weights_that_the_last_step_of_an_epoch_broke_are_not_kept(faces, tmp_path, monkeypatch):
    output = tmp_path / "w.safetensors"
    steps = len(faces.split("fit")) // 32
    monkeypatch.setattr(loop, "learning_rate", lambda config, done: 1e30 if done > steps / (steps + 1.5) else 1e-3)
    error = refused(faces, "mini_xception", output, quick(epochs=1, optimiser="sgd", clip=None))
    assert error.message == f"the loss on val became nan at step {steps} with learning rate 1e+30"
    assert not output.exists()


def test_a_class_without_training_faces(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (300, 16, 16), dtype=np.uint8)
    labels = np.arange(300) % 6  # no 6: neutral
    save_npz(tmp_path / "six.npz", images, labels, splits=["train"] * len(labels))
    error = refused(open_dataset(tmp_path / "six.npz"), "lenet", tmp_path / "w.safetensors", quick())
    assert "have none of 'neutral'" in error.message
    assert "six.npz:fit" in error.message
    assert "add faces of it" in error.hint


def test_an_unknown_network(faces, tmp_path):
    assert refused(faces, "lenett", tmp_path / "w.safetensors", quick()).hint.startswith("did you mean 'lenet'?")


def test_an_output_with_another_suffix(faces, tmp_path):
    error = refused(faces, "lenet", tmp_path / "w.pth", quick())
    assert error.message == "weights are written as .safetensors, not as w.pth"
    assert error.hint == f"-o {tmp_path / 'w.safetensors'}"


def test_fewer_faces_than_a_batch(tmp_path):
    faces = synthetic(tmp_path / "few.npz", 120)
    result = train(faces, "lenet", tmp_path / "w.safetensors", quick(epochs=2, batch_size=4096))
    assert result.epochs == 2
    assert all(math.isfinite(epoch["loss"]) for epoch in result.curve)


def test_faces_are_kept_at_a_byte_a_pixel(faces):
    from edgefer.models import default_contract

    prepared = prepare_split(faces.split("fit"), default_contract("lenet", faces.classes))
    assert prepared.faces.dtype == torch.uint8
    assert prepared.faces.nbytes == 2304 * len(faces.split("fit"))
    batch, labels = next(faces.split("fit").batches(10_000, default_contract("lenet", faces.classes)))
    assert hashlib.sha256(prepared.faces.numpy().tobytes()).digest() == hashlib.sha256(batch.tobytes()).digest()
    assert prepared.labels.tolist() == labels.tolist()


def test_fine_tuning_begins_where_the_given_weights_stand(tmp_path, faces):
    first = train(faces, "lenet", tmp_path / "a.safetensors", TrainConfig(epochs=3, threads=1))
    still = TrainConfig(epochs=1, lr=1e-9, ema_decay=0.0, threads=1, augment=0.0)
    second = train(faces, "lenet", tmp_path / "b.safetensors", still, init=tmp_path / "a.safetensors")
    assert second.best_val_top1 == pytest.approx(first.best_val_top1, abs=0.02)
    a, b = load_weights(tmp_path / "a.safetensors"), load_weights(tmp_path / "b.safetensors")
    assert b.contract.lineage["init_sha256"] == a.sha256
    torch.testing.assert_close(a.state, b.state, atol=1e-4, rtol=0)
    with pytest.raises(EdgeferError, match="holds weights of 'lenet'"):
        train(faces, "mini_xception", tmp_path / "c.safetensors", still, init=tmp_path / "a.safetensors")


def test_votes_share_the_target_with_the_label(tmp_path):
    images, labels = synthetic_faces(70, seed=4)
    votes = np.zeros((70, 10), np.int64)
    votes[:, 1] = 10  # every tagger says happy
    splits = np.asarray(["train"] * 70)
    np.savez(tmp_path / "v.npz", images=images, labels=labels, ferplus_votes=votes, splits=splits)
    faces = open_dataset(tmp_path / "v.npz").split("train")
    contract = default_contract("lenet", faces.classes)
    plain = prepare_split(faces, contract)
    assert plain.targets is plain.labels
    frequent = np.bincount(labels, minlength=7) / len(labels)  # all that votes which never differ can say
    half = Opinions(faces, 0.5).mixed_in(plain, None)
    for target, label in zip(half.targets.tolist(), half.labels.tolist(), strict=True):
        expected = 0.5 * frequent
        expected[label] += 0.5
        assert target == pytest.approx(expected, abs=1e-3)
    save_npz(tmp_path / "n.npz", images, labels, splits=["train"] * len(labels))
    with pytest.raises(EdgeferError, match="no FER\\+ votes"):
        Opinions(open_dataset(tmp_path / "n.npz").split("train"), 0.5)


def test_other_votes_are_another_run(tmp_path):
    images, labels = synthetic_faces(140, seed=4)
    found = []
    for tagged in (1, 2):
        votes = np.zeros((140, 10), np.int64)
        votes[:, tagged] = 10
        np.savez(tmp_path / "v.npz", images=images, labels=labels, ferplus_votes=votes)
        faces = open_dataset(tmp_path / "v.npz")
        contract = default_contract("lenet", faces.classes)
        config = quick(vote_share=0.5)
        start = begin(contract, None, (), 1.0)
        run = loop._Run(faces.split("fit"), faces.split("val"), contract, tmp_path / "w", config, start)
        found.append(run.identity)
    differing = {name for name in found[0] if found[0][name] != found[1][name]}
    assert differing == {"votes_sha256"}


def test_settings_reach_the_learner(tmp_path, monkeypatch):
    images, labels = synthetic_faces(140, seed=4)
    np.savez(tmp_path / "v.npz", images=images, labels=labels, ferplus_votes=np.eye(10, dtype=np.int64)[labels] + 1)
    faces, told, weights = open_dataset(tmp_path / "v.npz"), [], []

    def step(self, faces, labels, lr, targets, taught, *, frozen):
        told.append((targets.ndim, frozen))
        weights.append(self.loss.weight)
        return 1.0, 0

    monkeypatch.setattr(loop.Learner, "step", step)
    config = quick(epochs=2, frozen=0.5, vote_share=0.3, class_weights="balanced")
    train(faces, "lenet", tmp_path / "w.safetensors", config)
    assert told == [(2, done < len(told) // 2) for done in range(len(told))]
    counts = np.bincount(faces.split("fit").labels, minlength=7)
    assert weights[0].numpy() == pytest.approx(counts.sum() / (7 * counts))


def test_balanced_sampling_shows_every_class_equally_often(tmp_path, monkeypatch):
    images, labels = synthetic_faces(400, seed=1)
    kept = np.flatnonzero((labels != 2) | (np.cumsum(labels == 2) <= 6))
    save_npz(tmp_path / "d.npz", images[kept], labels[kept], splits=["train"] * len(labels[kept]))
    faces = open_dataset(tmp_path / "d.npz")
    shown = []

    def step(self, faces, labels, *args, **kwargs):
        shown.extend(labels.tolist())
        return 1.0, 0

    monkeypatch.setattr(loop.Learner, "step", step)
    train(faces, "lenet", tmp_path / "w.safetensors", quick(epochs=12, sampling="balanced"))
    shares = np.bincount(shown, minlength=7) / len(shown)
    assert np.allclose(shares, 1 / 7, atol=0.02)


def test_the_step_schedule():
    config = quick(schedule="step", warmup=0.1)
    rates = [learning_rate(config, done) for done in (0.05, 0.1, 0.49, 0.5, 0.74, 0.75, 1.0)]
    assert rates == pytest.approx([1.5e-3, 3e-3, 3e-3, 3e-4, 3e-4, 3e-5, 3e-5])


def test_every_epoch_is_told(faces, tmp_path):
    told = []
    result = train(
        faces, "lenet", tmp_path / "w.safetensors", quick(epochs=3), on_epoch=lambda curve: told.append(curve[-1])
    )
    assert told == result.curve


def test_without_a_terminal_a_run_says_from_the_first_seconds_how_it_goes(faces, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("edgefer.training.loop._FIRST_SECONDS", 0.0)
    monkeypatch.setattr("edgefer.training.loop._EPOCHS_APART", 0.0)
    train(faces, "lenet", tmp_path / "w.safetensors", quick(epochs=3))
    said = capfd.readouterr().err
    first = re.search(r"epoch 1, (\d+) % of it: loss \d\.\d{3}, [\d,]+ faces/s, about \d+ (s|min) left", said)
    assert first is not None, said
    assert int(first[1]) < 100
    pace = r"val top-1 [\d.]+ % \(best [\d.]+ %\), [\d,]+ faces/s, \d+ s gone"
    assert re.findall(rf"^epoch (\d): loss \d\.\d{{4}}, {pace}, about \d+ s left$", said, re.M) == ["1", "2"]
    assert re.search(rf"^epoch 3: loss \d\.\d{{4}}, {pace}$", said, re.M), said
    assert "100 % of it" not in said


NETS = """
from torch import nn

def Net(num_classes):
    pooled = nn.Conv2d(1, 8, 5, stride=2, padding=2), nn.SiLU(), nn.AdaptiveAvgPool2d(6), nn.Flatten()
    return nn.Sequential(*pooled, nn.Linear(8 * 36, num_classes))
"""


def test_a_network_of_ones_own_learns_and_is_exported_without_another_contract(faces, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("ownlearner.py").write_text(NETS)
    labels = tuple(sorted(faces.classes))  # by name, as folders are read by others
    contract = Contract(labels, 24, 24, 1, Normalisation(), "mine")
    own = OwnNetwork("ownlearner:Net", contract)
    result = train(faces, own, Path("w.safetensors"), quick(epochs=15, lr=1e-2, augment=0.0, keep="loss"))
    assert "no weights file" not in capfd.readouterr().err  # it learns from scratch, as asked
    found = load_weights("w.safetensors")
    assert (found.contract.labels, found.contract.face_shape, found.contract.architecture) == (
        labels,
        (24, 24, 1),
        "mine",
    )
    assert result.curve[-1]["loss"] < result.curve[0]["loss"] - 0.1
    again = train(faces, own, Path("b.safetensors"), quick(augment=0.0), init=Path("w.safetensors"))
    assert again.curve[0]["loss"] < result.curve[0]["loss"]
    edgefer.export("ownlearner:Net", "m.onnx", weights="b.safetensors", simplify=False)
    assert load_model("m.onnx")[1].labels == labels
    other = replace(contract, labels=("a", "b", "c"))
    with pytest.raises(EdgeferError, match="and the contract of mine a, b, c"):
        train(faces, OwnNetwork("ownlearner:Net", other), Path("c.safetensors"), quick())
