"""Faces as deployed cameras make them."""

import cv2
import numpy as np
import pytest
import torch

from edgefer.data import synthetic_faces
from edgefer.models import create, default_contract
from edgefer.training.degrade import blur, degrade, jpeg, resolution
from edgefer.training.learner import Learner

from .conftest import quick

SIDE = 48


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        yield


def faces(count: int = 8) -> torch.Tensor:
    return torch.from_numpy(synthetic_faces(count, 3, SIDE)[0]).reshape(count, SIDE, SIDE, 1).float()


def test_probability_0_changes_nothing_and_asks_no_random_number():
    x, state = faces(2), torch.get_rng_state()
    assert degrade(x, 0.0) is x
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("shape", [(40, 48, 48, 1), (40, 21, 30, 3)])
def test_shape_and_range_and_the_given_faces_are_left_alone(shape):
    x = torch.randint(0, 256, shape).float()
    before = x.clone()
    changed = degrade(x, 0.7)
    assert changed.shape == x.shape
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert torch.equal(x, before)


def test_each_face_is_changed_in_each_way_by_its_own_chance():
    x = faces(1).expand(600, -1, -1, -1)
    changed = (degrade(x, 0.2) != x).flatten(1).any(dim=1).float().mean()
    assert changed == pytest.approx(1 - 0.8**5, abs=0.06)


@pytest.mark.parametrize("sigma", [0.8, 1.5])
def test_blur_is_opencvs_inside_the_face(sigma):
    x = faces(3)
    wanted = [cv2.GaussianBlur(face.numpy(), (15, 15), sigma) for face in x]
    inside = slice(8, SIDE - 8)
    got = blur(x, torch.full((3,), sigma))[:, inside, inside, 0].numpy()
    assert np.abs(got - np.stack(wanted)[:, inside, inside]).max() < 0.2


def test_each_face_has_its_own_blur():
    x = faces(1).expand(2, -1, -1, -1)
    slight, strong = (blur(x, torch.tensor([0.3, 1.6])) - x).abs().mean(dim=(1, 2, 3))
    assert strong > 5 * slight > 0


def test_low_resolution_is_what_opencv_makes_of_it():
    x = faces(2)
    small = [cv2.resize(face.numpy(), (16, 16), interpolation=cv2.INTER_AREA) for face in x]
    wanted = np.stack([cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) for face in small])
    got = resolution(x, torch.tensor([1 / 3, 1 / 3]))[..., 0].numpy()
    assert np.abs(got - wanted).max() < 0.01
    assert torch.allclose(resolution(x, torch.ones(2)), x, atol=1e-3)


@pytest.mark.parametrize("quality", [15, 45, 90])
def test_jpeg_is_the_codecs(quality):
    x = faces(6)
    x = (x + 20 * torch.randn(x.shape)).clamp(0, 255).round()
    codec = [
        cv2.imdecode(cv2.imencode(".jpg", face.to(torch.uint8).numpy(), [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0)
        for face in x
    ]
    got = jpeg(x, torch.full((6,), quality))[..., 0].numpy()
    apart = np.abs(got - np.stack(codec).astype(np.float32))
    assert np.median(apart) == 0  # the codec's transform is of whole numbers: a coefficient may fall to the other side
    assert apart.mean() < 0.5
    assert np.abs(got - x[..., 0].numpy()).mean() > 5 * apart.mean()


def test_a_learner_sees_degraded_faces():
    x = faces(16).to(torch.uint8)
    contract = default_contract("lenet", ("a", "b"))

    def loss(share):
        torch.manual_seed(1)
        learner = Learner(create("lenet", 2), contract, quick(augment=0.0, degrade=share), None)
        seen = []
        learner.module.register_forward_pre_hook(lambda module, given: seen.append(given[0].clone()))
        learner.step(x, torch.arange(16) % 2, 1e-3)
        return (seen[0] - x.float()).abs().mean().item()

    assert loss(0.0) == 0.0
    assert loss(0.5) > 1.0
