"""Targets from FER+'s votes: as they are, or translated into a data set's own labels."""

import numpy as np
import pytest
import torch

from edgefer.data import draw, open_dataset
from edgefer.models import default_contract
from edgefer.training.distillation import Teachers
from edgefer.training.faces_in_memory import prepare_split
from edgefer.training.votes import translated, with_votes


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


def test_votes_that_made_the_labels_count_as_they_are(tmp_path):
    images, labels = draw(40, seed=2)
    votes = np.full((40, 10), 1, np.int64)
    votes[:, 8:] = 0
    votes[np.arange(40), np.arange(40) % 8] = 5
    np.savez(tmp_path / "v.npz", images=images, labels=labels, ferplus_votes=votes)
    faces = open_dataset(tmp_path / "v.npz", votes="npz").split("train")
    prepared = prepare_split(faces, default_contract("lenet", faces.classes))
    targets = with_votes(faces, prepared, 0.6, None)[0].targets
    own = targets.gather(1, prepared.labels[:, None])
    assert faces.subset(range(5)).voted
    faces.voted = False
    assert not torch.allclose(with_votes(faces, prepared, 0.6, None)[0].targets, targets, atol=0.01)
    assert own.numpy() == pytest.approx(0.4 + 0.6 * 5 / 12)
    assert targets.sum(1).numpy() == pytest.approx(1.0)


def test_teachers_are_asked_about_both_sides():
    modules = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)) for _ in range(2)]
    x = torch.randint(0, 256, (5, 2, 6, 1), dtype=torch.uint8)
    sides = [module(side.float()).softmax(1) for module in modules for side in (x, x.flip(2))]
    torch.testing.assert_close(Teachers(modules, temperature=4.0).mean_answers(x), sum(sides) / 4)
