"""Targets from FER+'s votes: as they are, or translated into a data set's own labels."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from edgefer.cli import cli
from edgefer.data import ReadSettings, open_dataset, synthetic_faces
from edgefer.data.classes import FER2013, FERPLUS
from edgefer.models import create, default_contract
from edgefer.models.weights import load_weights, save_weights
from edgefer.training import loop, train
from edgefer.training.faces import prepare_split
from edgefer.training.losses import Opinions, Teachers, translated

from .conftest import quick


def world(count=4000):
    """A face is one of three kinds; taggers mostly see the kind, and labels call half of kind 2 by 1."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 3, count)
    votes = np.stack([rng.multinomial(10, 0.1 + 0.7 * np.eye(3)[kind]) / 10 for kind in kinds])
    renamed = (kinds == 2) & (rng.random(count) < 0.5)
    return kinds, torch.tensor(votes, dtype=torch.float32), torch.tensor(np.where(renamed, 1, kinds)), renamed


def test_votes_are_translated_into_the_labels_words():
    kinds, votes, labels, _ = world()
    said = translated(votes, labels, None)
    assert torch.allclose(said.sum(1), torch.ones(len(said)))
    of_kind = torch.stack([said[torch.tensor(kinds == kind)].mean(0) for kind in range(3)])
    wanted = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.5, 0.5]])
    assert (of_kind - wanted).abs().max() < 0.05
    assert (votes[torch.tensor(kinds == 2)].mean(0)[1] - 0.5).abs() > 0.3  # as they are, they are far from it


def test_teachers_know_what_votes_do_not_say():
    _, votes, labels, renamed = world()
    answers = torch.full((len(votes), 3), 1 / 3)
    answers[:, 1] += torch.where(torch.tensor(renamed), 0.1, -0.1)  # a hint about the renamed, and no more
    answers /= answers.sum(1, keepdim=True)
    right = [float((translated(votes, labels, hint).argmax(1) == labels).float().mean()) for hint in (None, answers)]
    assert right[1] > right[0] + 0.1


def voted(path, labels=None):
    """40 faces of FER+'s eight classes in turn, each chosen by 5 of 12 taggers, who else say each class once."""
    images, own = synthetic_faces(40, seed=2)[:2]
    votes = np.full((40, 10), 1, np.int64)
    votes[:, 8:] = 0
    votes[np.arange(40), np.arange(40) % 8] = 5
    names = {} if labels is None else {"classes": np.asarray(FERPLUS)}
    names["splits"] = np.asarray(["train"] * 40)
    np.savez(path, images=images, labels=own if labels is None else labels, ferplus_votes=votes, **names)
    return path


def shares(faces, share=0.6):
    prepared = prepare_split(faces, default_contract("lenet", faces.classes))
    targets = Opinions(faces, share).mixed_in(prepared, None).targets
    assert targets.sum(1).numpy() == pytest.approx(1.0)
    return targets, targets.gather(1, prepared.labels[:, None]).numpy()


def test_votes_that_made_the_labels_count_as_they_are(tmp_path):
    faces = open_dataset(voted(tmp_path / "v.npz"), votes="npz").split("train")
    assert shares(faces)[1] == pytest.approx(0.4 + 0.6 * 5 / 12)
    assert Opinions(faces, 0.6).lineage["votes"] == "as they are"


def test_votes_whose_classes_were_merged_count_as_they_are(tmp_path):
    merged = {"contempt": "angry", "disgust": "angry"}
    faces = open_dataset(voted(tmp_path / "v.npz"), votes="npz", reading=ReadSettings(relabelling=merged)).split(
        "train"
    )
    targets, own = shares(faces)
    assert targets.shape == (40, 6)
    angry = faces.labels == faces.classes.index("angry")
    assert own[angry] == pytest.approx(0.4 + 0.6 * 7 / 12)
    assert own[~angry] == pytest.approx(0.4 + 0.6 * 5 / 12)


def test_an_npz_whose_labels_are_its_votes_needs_no_option(tmp_path):
    faces = open_dataset(voted(tmp_path / "v.npz", np.arange(40) % 8)).split("train")
    assert faces.classes == FERPLUS
    assert not faces.voted
    assert shares(faces)[1] == pytest.approx(0.4 + 0.6 * 5 / 12)


def test_votes_beside_other_labels_are_translated(tmp_path):
    faces = open_dataset(voted(tmp_path / "v.npz")).split("train")
    assert Opinions(faces, 0.6).lineage["votes"] == "translated into labels"
    as_they_are = torch.lerp(torch.eye(7)[torch.tensor(faces.labels)], torch.tensor(faces.soft), 0.6)
    assert not torch.allclose(shares(faces)[0], as_they_are, atol=0.01)


def test_the_command_keeps_the_datas_labels_beside_votes(tmp_path):
    images, labels = synthetic_faces(140, seed=4)[:2]
    votes = np.zeros((140, 10), np.int64)
    votes[np.arange(140), [FERPLUS.index(FER2013[label]) for label in labels]] = 6
    votes[:, 7] = 4
    np.savez(tmp_path / "v.npz", images=images, labels=labels, ferplus_votes=votes)
    out = tmp_path / "w.safetensors"
    given = ["train", "--model", "lenet", "--data", str(tmp_path / "v.npz"), "--own-labels", "-o", str(out)]
    refused = CliRunner().invoke(cli, given)
    assert refused.exit_code == 2
    assert "pass --votes too" in refused.output
    assert not out.exists()
    more = ["--votes", "npz", "--vote-share", "0.5", "--epochs", "1", "--threads", "1"]
    assert CliRunner().invoke(cli, [*given, *more], catch_exceptions=False).exit_code == 0
    contract = load_weights(out).contract
    assert contract.labels == FER2013
    assert contract.lineage["votes"] == "as they are"  # every label is the votes' majority


def test_a_run_that_goes_on_has_its_targets(tmp_path, monkeypatch):
    images, labels = synthetic_faces(140, seed=4)[:2]
    votes = np.random.default_rng(0).multinomial(10, np.full(10, 0.1), 140)
    np.savez(tmp_path / "v.npz", images=images, labels=labels, ferplus_votes=votes)
    faces = open_dataset(tmp_path / "v.npz")
    teacher = tmp_path / "t.safetensors"
    contract = default_contract("lenet", faces.classes)
    torch.manual_seed(0)
    save_weights(teacher, create("lenet", 7).state_dict(), contract)
    config = quick(epochs=2, vote_share=0.5, checkpoint_seconds=0.0)
    out, whole = tmp_path / "w.safetensors", tmp_path / "whole.safetensors"
    train(faces, "lenet", whole, config, teachers=[teacher])
    genuine = loop._Run.save

    def stop(run):
        genuine(run)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            train(faces, "lenet", out, config, teachers=[teacher])
    monkeypatch.setattr("edgefer.training.losses._answers", lambda *_: pytest.fail("the teacher was asked again"))
    train(faces, "lenet", out, config, teachers=[teacher])
    assert out.read_bytes() == whole.read_bytes()


def test_teachers_are_asked_about_both_sides():
    modules = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)) for _ in range(2)]
    x = torch.randint(0, 256, (5, 2, 6, 1), dtype=torch.uint8)
    sides = [module(side.float()).softmax(1) for module in modules for side in (x, x.flip(2))]
    torch.testing.assert_close(Teachers(modules, temperature=4.0).mean_answers(x), sum(sides) / 4)
