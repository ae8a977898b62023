from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from edgefer.cli import cli
from edgefer.data import save_npz, synthetic_faces
from edgefer.errors import EdgeferError
from edgefer.models import create, default_contract
from edgefer.models.deployable import Deployable
from edgefer.models.weights import load_network, load_weights, save_weights
from edgefer.training import train
from edgefer.training.learner import Learner
from edgefer.training.losses import Teachers, distillation, open_teachers

from .conftest import quick

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def weights(path, name="lenet", labels=LABELS, seen=()):
    torch.manual_seed(3)
    save_weights(path, create(name, len(labels)).state_dict(), default_contract(name, labels), {"trained": seen})
    return path


def batch(count=8):
    torch.manual_seed(5)
    return torch.randint(0, 256, (count, 48, 48, 1), dtype=torch.uint8), torch.arange(count) % 7


def test_the_loss_is_hintons():
    logits, taught = torch.tensor([[3.0, 0.0, -3.0], [0.0, 0.0, 6.0]]), torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.9, 0.0]])
    expected = 0.0
    for row, wanted in zip(logits.double() / 3, taught.double(), strict=True):
        learnt = row.exp() / row.exp().sum()
        expected += sum(float(t * (t / p).log()) for t, p in zip(wanted, learnt, strict=True) if t > 0)
    assert distillation(logits, taught, 3.0).item() == pytest.approx(9 * expected / 2, rel=1e-5)


def test_answers_are_softened_probabilities_of_any_teacher_and_either_side():
    modules = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)) for _ in range(2)]
    x = torch.randn(5, 2, 6, 1)
    possible = [(module(side) / 2).softmax(1) for module in modules for side in (x, x.flip(2))]
    torch.manual_seed(0)
    teachers = Teachers(modules, temperature=2.0)
    asked = [0] * 4
    for _ in range(400):
        answers = teachers.answers(x)
        asked[next(i for i, p in enumerate(possible) if torch.allclose(p, answers))] += 1
    assert min(asked) > 60
    assert not answers.requires_grad
    assert not any(p.requires_grad for p in modules[0].parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_learner_comes_to_answer_as_its_teacher(tmp_path, precision):
    contract = default_contract("lenet", LABELS)
    teachers, _, _ = open_teachers([weights(tmp_path / "t.safetensors")], contract, temperature=1.0)
    before = [p.clone() for p in teachers.modules[0].parameters()]
    torch.manual_seed(0)
    config = quick(teacher_share=1.0, temperature=1.0, augment=0.0, precision=precision).resolved("lenet")
    learner = Learner(create("lenet"), contract, config, None, teachers)
    faces, labels = batch()
    losses = [learner.step(faces, labels, 3e-3)[0] for _ in range(25)]
    assert losses[-1] < 0.2 * losses[0]
    for was, parameter in zip(before, teachers.modules[0].parameters(), strict=True):
        assert torch.equal(was, parameter)


def test_the_share_weighs_teachers_against_labels(tmp_path):
    contract = default_contract("lenet", LABELS)
    teachers, _, _ = open_teachers([weights(tmp_path / "t.safetensors")], contract, temperature=2.0)

    def first_loss(share):
        torch.manual_seed(1)
        settings = {} if share is None else {"teacher_share": share}
        subject = Learner(create("lenet"), contract, quick(augment=0.0, **settings), None, teachers if share else None)
        for module in subject.module.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        return subject.step(*batch(), lr=1e-4)[0]

    labels, taught = first_loss(None), first_loss(1.0)
    assert abs(labels - taught) > 0.1
    assert first_loss(0.25) == pytest.approx(0.75 * labels + 0.25 * taught, rel=1e-4)


def test_what_teachers_and_beginnings_have_seen_counts_as_seen(tmp_path, faces):
    teacher = weights(tmp_path / "t.safetensors", seen=["00" * 32])
    first = weights(tmp_path / "i.safetensors", seen=["ff" * 32])
    out = tmp_path / "w.safetensors"
    train(faces, "lenet", out, quick(epochs=1), init=first, teachers=[teacher])
    written = load_weights(out)
    own = {face[:10] for face in faces.split("fit").face_hashes()}
    assert written.seen == own | {"00" * 5, "ff" * 5}
    assert written.met["chose"] == {face[:10] for face in faces.split("val").face_hashes()}
    assert written.contract.lineage["teachers_sha256"] == load_weights(teacher).sha256
    assert written.contract.lineage["init_sha256"] == load_weights(first).sha256


def test_a_teacher_that_learnt_from_val_faces_is_told(tmp_path, faces, capsys):
    val = faces.split("val").face_hashes()
    teacher = weights(tmp_path / "t.safetensors", seen=[*val[:3], "00" * 32])
    train(faces, "lenet", tmp_path / "w.safetensors", quick(epochs=1), teachers=[teacher])
    assert f"learnt from 3 of the {len(val)} val faces" in capsys.readouterr().err


def test_a_run_goes_on_only_with_the_same_teachers(tmp_path, faces):
    from edgefer.training.loop import state_path

    out, teacher = tmp_path / "w.safetensors", weights(tmp_path / "t.safetensors")
    config = quick(epochs=2, checkpoint_seconds=0.0)
    kept = []

    def stop(run):
        kept.append(state_path(out).read_bytes())
        return True

    with pytest.MonkeyPatch.context() as patch:
        from edgefer.training import loop

        saved = loop._Run.save
        patch.setattr(loop._Run, "save", lambda run: (saved(run), stop(run)))
        train(faces, "lenet", out, config, teachers=[teacher])
    state_path(out).write_bytes(kept[0])
    with pytest.raises(EdgeferError, match="state of another run: .*teachers_sha256 was"):
        train(faces, "lenet", out, config)


@pytest.mark.parametrize(("name", "labels"), [("lenet", LABELS[:4]), ("lenet", LABELS[::-1]), ("resnet18", LABELS)])
def test_teachers_of_other_classes_or_channels(tmp_path, name, labels):
    teacher = weights(tmp_path / "t.safetensors", name, labels)
    with pytest.raises(EdgeferError) as caught:
        open_teachers([teacher], default_contract("mini_xception", LABELS), 2.0)
    assert caught.value.message.startswith(f"the teacher {teacher} takes faces of {3 if name == 'resnet18' else 1} cha")
    assert caught.value.hint == "a teacher must have the learner's channels and its classes, in the same order"


def test_a_teacher_sees_faces_in_its_own_size(tmp_path):
    contract = default_contract("mini_xception", LABELS)
    teacher = weights(tmp_path / "t.safetensors", "mini_xception_keras")
    teachers, _, _ = open_teachers([teacher], contract, 1.0)
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    own = 120 + 70 * torch.sin(rows / 9) * torch.cos(columns / 13)  # smooth: what is seen at 48 restores it
    taps = (torch.arange(48) + 0.5) * 64 / 48 - 0.5
    low, part = taps.floor().long(), taps - taps.floor()
    across = own[:, low] * (1 - part) + own[:, low + 1] * part
    small = across[low] * (1 - part)[:, None] + across[low + 1] * part[:, None]
    alone = Deployable(load_network(teacher)[0].eval(), load_network(teacher)[1])
    said = teachers.modules[0](small.view(1, 48, 48, 1).round().to(torch.uint8))
    torch.testing.assert_close(said, alone(own.view(1, 64, 64, 1)), rtol=0, atol=0.1)
    turned = teachers.modules[0](small.T.reshape(1, 48, 48, 1).to(torch.uint8))
    assert (turned - said).abs().max() > 1


def test_a_teacher_of_smaller_faces_sees_edges_as_sharp_as_bicubic_leaves_them(tmp_path):
    """Nothing is averaged, and what overshoots at an edge is cut to 0…255."""
    teacher = weights(tmp_path / "t.safetensors", "mini_xception")
    contract = default_contract("mini_xception", LABELS, 64)
    teachers, _, _ = open_teachers([teacher], contract, 1.0)
    edge = torch.zeros(64)
    edge[10] = edge[30:] = 255.0  # a line and an edge
    taps = (torch.arange(48) + 0.5) * 64 / 48 - 0.5

    def cubic(x):  # Keys' kernel, a = −0.75
        x, a = x.abs(), -0.75
        near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * (x**3 - 5 * x**2 + 8 * x - 4)
        return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))

    weight = cubic(taps[:, None] - torch.arange(-3, 67.0)[None])
    small = weight @ torch.cat([edge[:1].expand(3), edge, edge[-1:].expand(3)])
    assert small.min() < -4
    shown = small.clamp(0, 255).expand(1, 48, 48)[..., None]
    alone = Deployable(load_network(teacher)[0].eval(), load_network(teacher)[1])
    said = teachers.modules[0](edge.expand(1, 64, 64)[..., None].to(torch.uint8))
    torch.testing.assert_close(said, alone(shown), rtol=0, atol=1e-3)


def test_a_flipped_teacher_is_asked_as_often_as_another(tmp_path):
    plain = weights(tmp_path / "t.safetensors")
    network, contract, _ = load_network(plain)
    test_time_flip = tmp_path / "m.safetensors"
    save_weights(test_time_flip, network.state_dict(), replace(contract, test_time_flip=True))
    faces, _ = batch(4)
    said = []
    for file in (plain, test_time_flip):
        (teachers, _, _), seen = open_teachers([file], contract, 1.0), []
        teachers.modules[0].network.register_forward_hook(lambda module, given, out, seen=seen: seen.append(len(out)))
        said.append(teachers.mean_answers(faces))
        assert seen == [4, 4]
    assert torch.equal(said[0], said[1])


@pytest.mark.parametrize("where", ["option", "recipe"])
def test_options_of_teachers_without_one(tmp_path, where):
    save_npz(tmp_path / "d.npz", *synthetic_faces(30, seed=1)[:2], splits=["train"] * 30)
    out = tmp_path / "w.safetensors"
    (tmp_path / "r.toml").write_text('model = "lenet"\n[train]\ntemperature = 3\n')
    given = ["--model", "lenet", "--temperature", "3"] if where == "option" else ["--recipe", str(tmp_path / "r.toml")]
    arguments = ["train", *given, "--data", str(tmp_path / "d.npz"), "-o", str(out)]
    result = CliRunner().invoke(cli, arguments)
    assert isinstance(result.exception, EdgeferError)
    assert "there is none" in result.exception.message
    assert not out.exists()
