import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from edgefer.errors import EdgeferError
from edgefer.models import create, default_contract
from edgefer.training.faces import PreparedFaces, class_weights
from edgefer.training.learner import Learner
from tests.models.zoo import EVERY

from .conftest import quick

LABELS = tuple("abcdefg")


def learner(**changes) -> Learner:
    torch.manual_seed(0)
    config = quick(**changes).resolved("lenet")
    return Learner(create("mini_xception"), default_contract("mini_xception", LABELS), config, None)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randint(0, 256, (8, 48, 48, 1), dtype=torch.uint8), torch.arange(8) % 7


def test_the_average_follows_its_formula():
    subject = learner(ema_decay=0.3)
    wanted = {name: tensor.clone() for name, tensor in subject.average.network.state_dict().items()}
    for step in range(1, 4):
        subject.step(*batch(), lr=1e-2)
        decay = min(0.3, (1 + step) / (9 + step))
        for name, tensor in subject.module.network.state_dict().items():
            wanted[name] = decay * wanted[name] + (1 - decay) * tensor if tensor.is_floating_point() else tensor.clone()
    for name, tensor in subject.averaged_weights().items():
        assert torch.allclose(tensor, wanted[name], atol=1e-6), name


def test_no_average_keeps_the_weights_themselves():
    subject = learner(ema_decay=0.0)
    subject.step(*batch(), lr=1e-2)
    for name, tensor in subject.averaged_weights().items():
        assert torch.equal(tensor, subject.module.network.state_dict()[name]), name


def test_every_face_is_evaluated():
    subject = learner()
    faces = torch.randint(0, 256, (300, 48, 48, 1), dtype=torch.uint8)
    with torch.inference_mode():
        logits = subject.average(faces)
    labels = logits.argmax(dim=1)
    labels[:60] = (labels[:60] + 1) % 7
    reached = subject.evaluate(PreparedFaces(faces, labels, labels))
    assert reached.top1 == pytest.approx(0.8)
    assert reached.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), abs=1e-4)


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_optimiser_learns_one_batch(optimiser, precision):
    subject = learner(optimiser=optimiser, precision=precision, augment=0.0)
    faces, labels = batch()
    lr = 0.05 if optimiser == "sgd" else 5e-3
    losses = [subject.step(faces, labels, lr)[0] for _ in range(12)]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", EVERY)
def test_every_network_learns_one_batch_as_in_its_warm_up(name):
    torch.manual_seed(0)
    config = quick(batch_size=None, lr=None, augment=0.0, clip=None).resolved(name)
    contract = default_contract(name, LABELS)
    subject = Learner(create(name), contract, config, None)
    for module in subject.module.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # its noise hides what eight faces teach
    faces = torch.randint(0, 256, (8, *contract.face_shape), dtype=torch.uint8)
    losses = [subject.step(faces, torch.arange(8) % 7, 0.1 * config.lr)[0] for _ in range(6)]
    assert losses[-1] < losses[0]


WEIGHTS = torch.linspace(0.2, 3.0, 7)
SOFT = torch.softmax(torch.arange(56.0).view(8, 7) % 5, dim=1)
OTHERS = torch.arange(8).flip(0)


@pytest.mark.parametrize(
    ("settings", "given", "expected"),
    [
        ({}, {}, cross_entropy),
        ({"label_smoothing": 0.2}, {}, lambda logits, labels: cross_entropy(logits, labels, label_smoothing=0.2)),
        ({}, {"weights": WEIGHTS}, lambda logits, labels: cross_entropy(logits, labels, weight=WEIGHTS)),
        ({}, {"targets": SOFT}, lambda logits, _: -(SOFT * logits.log_softmax(dim=1)).sum(dim=1).mean()),
        (
            *({"mixup": 0.4}, {}),
            lambda logits, labels: 0.3 * cross_entropy(logits, labels) + 0.7 * cross_entropy(logits, labels[OTHERS]),
        ),
    ],
    ids=["plain", "smoothed", "weighted", "soft", "mixed"],
)
def test_the_loss_is_what_was_asked_for(monkeypatch, settings, given, expected):
    share = 0.3 if settings.get("mixup") else 1.0
    monkeypatch.setattr("edgefer.training.learner.mix", lambda faces, alpha: (faces, OTHERS, share))
    torch.manual_seed(0)
    config = quick(augment=0.0, **settings).resolved("mini_xception")
    contract = default_contract("mini_xception", LABELS)
    subject = Learner(create("mini_xception"), contract, config, given.get("weights"))
    faces, labels = batch()
    with torch.no_grad():
        logits = copy.deepcopy(subject.module).train()(faces.float())
    loss, _ = subject.step(faces, labels, 1e-3, given.get("targets"))
    assert loss == pytest.approx(expected(logits, labels).item(), rel=1e-4)


def test_settings_reach_augmentation_and_autocast(monkeypatch):
    asked, kinds = [], set()
    monkeypatch.setattr(
        "edgefer.training.learner.augment", lambda faces, *settings: (asked.append(settings), faces.float())[1]
    )
    for precision in ("bf16", "fp32"):
        subject = learner(augment=0.9, erasing=0.1, noise=0.05, crop=0.2, precision=precision)
        subject.module.network.base[0].register_forward_hook(lambda _, __, out: kinds.add(out.dtype))
        subject.step(*batch(), lr=1e-3)
        assert kinds.pop() == (torch.bfloat16 if precision == "bf16" else torch.float32)
    assert asked == [(0.9, 0.1, 0.05, 0.2)] * 2


def test_weight_decay_spares_norms_and_biases():
    subject = learner(weight_decay=0.5)
    groups = subject.optimiser.param_groups
    for group in groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] == 0.5}
    assert sum(p.numel() for group in groups for p in group["params"]) == 58_047


def test_clipping_limits_a_step():
    subject = learner(optimiser="sgd", clip=1e-3, weight_decay=0.0, augment=0.0)
    before = [p.detach().clone() for p in subject.module.parameters()]
    subject.step(*batch(), lr=1.0)
    moved = torch.sqrt(sum(((p - q) ** 2).sum() for p, q in zip(subject.module.parameters(), before, strict=True)))
    assert moved.item() == pytest.approx(1.9e-3, rel=0.01)  # Nesterov's first step is (1 + 0.9) times the gradient


def test_a_loss_that_is_no_number():
    subject = learner()
    with torch.no_grad():
        subject.module.network.conv.bias.fill_(float("nan"))
    with pytest.raises(EdgeferError) as caught:
        subject.step(*batch(), lr=0.25)
    assert caught.value.message == "the training loss became nan at step 1 with learning rate 0.25"
    assert "a third of the learning rate" in caught.value.hint


def test_class_weights():
    labels = torch.tensor([0] * 6 + [1] * 2)
    assert class_weights(labels, 2, "none") is None
    assert class_weights(labels, 2, "balanced").tolist() == pytest.approx([8 / 12, 2.0])
    assert class_weights(labels, 2, "sqrt").tolist() == pytest.approx([(8 / 12) ** 0.5, 2**0.5])


def moved(subject, before):
    now = subject.module.network.state_dict()
    return {name.rpartition(".")[0] for name, was in before.items() if not torch.equal(was, now[name])}


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_while_frozen_only_the_last_layer_moves(optimiser):
    subject = learner(weight_decay=0.1, optimiser=optimiser)
    before = {name: tensor.clone() for name, tensor in subject.module.network.state_dict().items()}
    subject.step(*batch(), lr=1e-2, frozen=True)
    assert moved(subject, before) == {"conv"}
    learnt = {name for name, parameter in subject.module.network.named_parameters() if parameter.grad is not None}
    assert learnt == {"conv.weight", "conv.bias"}  # what is frozen has no part in the norm that is clipped
    subject.step(*batch(), lr=1e-2)
    assert {"base.0", "base.1", "conv"} <= moved(subject, before)


def test_the_last_layer_has_its_own_rate():
    subject = learner(optimiser="sgd", head_lr=10.0, clip=None, weight_decay=0.0, augment=0.0)
    before = {name: tensor.clone() for name, tensor in subject.module.network.named_parameters()}
    subject.step(*batch(), lr=1e-3)
    for name, parameter in subject.module.network.named_parameters():
        rate = 1e-2 if name.startswith("conv.") else 1e-3
        step = 1.9 * rate * parameter.grad  # Nesterov's first step
        torch.testing.assert_close(parameter.detach(), before[name] - step, rtol=1e-4, atol=1e-7)


def test_ddamfn_is_trained_with_its_attention_loss():
    torch.manual_seed(0)
    config = quick(augment=0.0, clip=None).resolved("ddamfn")
    contract = default_contract("ddamfn", LABELS)
    subject = Learner(create("ddamfn"), contract, config, None)
    faces = torch.randint(0, 256, (2, 112, 112, 3), dtype=torch.uint8)
    labels = torch.tensor([1, 2])
    subject.module.train()
    with torch.no_grad():
        network = copy.deepcopy(subject.module.network)
        outputs = network.training_outputs(subject.module.normalised(faces))
        first, second = outputs.attention
        expected = torch.nn.functional.cross_entropy(outputs.logits, labels) + 0.1 / (
            ((first - second) ** 2).mean() + 1e-6
        )
    assert subject.step(faces, labels, lr=0.0)[0] == pytest.approx(expected.item(), rel=1e-3)
