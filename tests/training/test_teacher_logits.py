"""Distillation from a teacher's logits in a file, without the teacher."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from edgefer.cli import cli
from edgefer.data import open_dataset, save_npz, synthetic_faces
from edgefer.errors import EdgeferError
from edgefer.models import create, default_contract
from edgefer.models.deployable import Deployable
from edgefer.models.weights import load_network, load_weights
from edgefer.training import train
from edgefer.training.augment import mix
from edgefer.training.config import load_recipe
from edgefer.training.learner import Learner
from edgefer.training.losses import distillation
from edgefer.training.teacher_logits import load_teacher_logits, write_teacher_logits

from .conftest import quick
from .test_distillation import LABELS, weights


@pytest.fixture
def teacher(tmp_path):
    return weights(tmp_path / "t.safetensors", "lenet", LABELS, seen=["00" * 32])


@pytest.fixture
def kept(tmp_path, teacher, faces):
    path = tmp_path / "t.npz"
    write_teacher_logits(teacher, faces.split("fit"), path)
    return path


def test_answers_are_the_mean_of_both_sides_in_the_order_of_the_faces(kept, teacher, faces):
    fit = faces.split("fit")
    chosen = fit.subset([5, 2, 9])
    network, contract, _ = load_network(teacher)
    shown = torch.from_numpy(next(chosen.batches(3, contract))[0].copy())
    module = Deployable(network, contract)
    with torch.no_grad():
        wanted = sum((module(side) / 3).softmax(1) for side in (shown, shown.flip(2))) / 2
    found = load_teacher_logits(kept, LABELS)
    torch.testing.assert_close(found.answers(chosen, 3.0), wanted, rtol=0, atol=2e-3)
    assert found.logits.dtype == torch.float16
    assert not torch.equal(found.logits[:, 0], found.logits[:, 1])


def test_copies_of_a_face_are_asked_about_once_and_found_again(tmp_path, teacher):
    images, labels = synthetic_faces(14, 3, 24)[:2]
    save_npz(
        tmp_path / "d.npz",
        np.concatenate([images, images[:4]]),
        np.concatenate([labels, labels[:4]]),
        splits=["train"] * (len(labels) + 4),
    )
    faces = open_dataset(tmp_path / "d.npz").split("train")
    assert write_teacher_logits(teacher, faces, tmp_path / "t.npz") == 14
    answers = load_teacher_logits(tmp_path / "t.npz", LABELS).answers(faces, 1.0)
    assert torch.equal(answers[:4], answers[14:])


def test_a_run_learns_from_the_file_and_says_so(tmp_path, kept, faces):
    out, without = tmp_path / "w.safetensors", tmp_path / "o.safetensors"
    train(faces, "lenet", out, quick(epochs=1, teacher_share=0.9), teachers=[kept])
    train(faces, "lenet", without, quick(epochs=1))
    written = load_weights(out)
    assert written.contract.lineage["teachers_sha256"] == load_teacher_logits(kept, LABELS).sha256
    assert written.seen >= load_weights(without).seen | {"00" * 5}
    assert not all(torch.equal(tensor, load_weights(without).state[name]) for name, tensor in written.state.items())


@pytest.mark.parametrize("mixup", [0.0, 5.0])
def test_the_loss_is_against_what_was_taught_of_each_face(mixup):
    torch.manual_seed(0)
    taught = torch.randn(8, 7).mul(2).softmax(1)
    config = quick(teacher_share=1.0, temperature=2.0, augment=0.0, mixup=mixup)
    learner = Learner(create("lenet7"), default_contract("lenet7", LABELS), config, None)
    shown, labels = torch.randint(0, 256, (8, 48, 48, 1), dtype=torch.uint8), torch.arange(8) % 7
    torch.manual_seed(1)
    mixed, others, share = mix(shown.float(), mixup)
    with torch.no_grad():
        logits = learner.module(mixed)
    wanted = distillation(logits, share * taught + (1 - share) * taught[others], 2.0)
    torch.manual_seed(1)
    assert learner.step(shown, labels, 1e-4, None, taught)[0] == pytest.approx(wanted.item(), rel=1e-4)


def test_faces_that_the_teacher_was_not_asked_about(tmp_path, kept, faces):
    other = tmp_path / "other.npz"
    save_npz(other, *synthetic_faces(140, 9, 24)[:2], splits=["train"] * 140)
    with pytest.raises(EdgeferError, match=r"has no logits for \d+ of the \d+ faces") as caught:
        train(open_dataset(other), "lenet", tmp_path / "w.safetensors", quick(), teachers=[kept])
    assert "edgefer teacher-logits" in caught.value.hint
    assert not (tmp_path / "w.safetensors").exists()


def test_logits_stand_alone(tmp_path, kept, teacher, faces):
    with pytest.raises(EdgeferError, match="holds the logits of one teacher, and 1 more were given"):
        train(faces, "lenet", tmp_path / "w.safetensors", quick(), teachers=[teacher, kept])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": np.asarray("other")}, "does not hold a teacher's logits"),
        ({"logits": np.zeros((3, 2, 7), np.float16)}, "faces of 7 classes, and logits of shape 3×2×7"),
        ({"logits": None}, "cannot be read as a teacher's logits"),
        ({"hashes": np.zeros(3)}, "its hashes are float64"),
        ({"classes": np.asarray(LABELS[::-1])}, "has the classes neutral, surprise"),
        ({"teacher_sha256": np.asarray(3)}, "its teacher_sha256 are int64"),
    ],
)
def test_files_that_are_something_else(tmp_path, kept, change, message):
    with np.load(kept) as archive:
        content = {**archive, **change}
    np.savez(tmp_path / "x.npz", **{key: value for key, value in content.items() if value is not None})
    with pytest.raises(EdgeferError, match=message):
        load_teacher_logits(tmp_path / "x.npz", LABELS)


def test_logits_that_are_not_finite_are_neither_written_nor_read(tmp_path, kept, teacher, faces, monkeypatch):
    with np.load(kept) as archive:
        content = dict(archive)
    content["logits"][0, 0, 0] = np.nan
    np.savez(tmp_path / "x.npz", **content)
    with pytest.raises(EdgeferError, match="has logits that are not finite"):
        load_teacher_logits(tmp_path / "x.npz", LABELS)
    genuine = Deployable.forward
    monkeypatch.setattr(Deployable, "forward", lambda module, shown: genuine(module, shown) + 1e6)
    with pytest.raises(EdgeferError, match="too large for FP16"):
        write_teacher_logits(teacher, faces.split("fit"), tmp_path / "y.npz")
    assert not (tmp_path / "y.npz").exists()


def test_a_damaged_file_and_one_that_is_not_there(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(EdgeferError, match="cannot be read as a teacher's logits"):
        load_teacher_logits(tmp_path / "x.npz", LABELS)
    with pytest.raises(EdgeferError, match="there are no teacher's logits"):
        load_teacher_logits(tmp_path / "none.npz", LABELS)


def test_the_command_writes_the_fit_faces(tmp_path, teacher, faces):
    data, out = tmp_path / "d.npz", tmp_path / "t.npz"
    save_npz(data, *synthetic_faces(60, 1, 24)[:2], splits=["train"] * 60)
    given = ["teacher-logits", str(teacher), "--data", str(data), "-o", str(out)]
    done = CliRunner().invoke(cli, given, catch_exceptions=False)
    assert "faces of" in done.output
    fit = open_dataset(data).split("fit")
    assert load_teacher_logits(out, LABELS).answers(fit, 1.0).shape == (len(fit), 7)
    for arguments, message in (
        ([*given[:-1], str(tmp_path / "t.bin")], "are written as .npz"),
        ([given[0], str(weights(tmp_path / "r.safetensors", "lenet", LABELS[::-1])), *given[2:]], "has the classes"),
    ):
        refused = CliRunner().invoke(cli, arguments)
        assert isinstance(refused.exception, EdgeferError)
        assert message in refused.exception.message


def test_a_recipe_finds_logits_beside_itself_unless_they_are_where_it_runs(tmp_path, kept, monkeypatch):
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "mine.toml").write_text('model = "lenet"\nteachers = ["t.npz"]\n')
    monkeypatch.chdir(folder)
    assert str(load_recipe(str(folder / "mine.toml")).teachers[0]) == "t.npz"
    (folder / "t.npz").write_bytes(kept.read_bytes())
    monkeypatch.chdir("/")
    assert load_recipe(str(folder / "mine.toml")).teachers == (folder / "t.npz",)
    monkeypatch.chdir(tmp_path)
    assert str(load_recipe(str(folder / "mine.toml")).teachers[0]) == "t.npz"
