import math

import pytest
import torch

from edgefer.training.augment import augment, mix


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        yield


def spot(count: int, row: int, column: int, size: int = 48) -> torch.Tensor:
    faces = torch.zeros((count, size, size, 1), dtype=torch.uint8)
    faces[:, row - 1 : row + 2, column - 1 : column + 2] = 200
    return faces


def centres(faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns of the centres of brightness above each face's median."""
    light = (faces[..., 0] - faces[..., 0].flatten(1).median(dim=1).values[:, None, None]).clamp_min(0)
    total = light.sum(dim=(1, 2))
    down, across = (torch.arange(side, dtype=torch.float32) for side in light.shape[1:])
    return (light.sum(dim=2) * down).sum(dim=1) / total, (light.sum(dim=1) * across).sum(dim=1) / total


def test_strength_0_changes_nothing():
    faces = torch.randint(0, 256, (4, 12, 12, 3), dtype=torch.uint8)
    changed = augment(faces, 0.0)
    assert changed.dtype == torch.float32
    assert torch.equal(changed, faces.float())


@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_range(channels):
    faces = torch.randint(0, 256, (64, 20, 30, channels), dtype=torch.uint8)
    changed = augment(faces, 3.0)
    assert changed.shape == faces.shape
    assert changed.min() >= 0
    assert changed.max() <= 255


def test_the_generator_decides():
    faces = torch.randint(0, 256, (4, 12, 12, 1), dtype=torch.uint8)
    torch.manual_seed(1)
    first = augment(faces, 1.0, 0.5)
    assert not torch.equal(augment(faces, 1.0, 0.5), first)
    torch.manual_seed(1)
    assert torch.equal(augment(faces, 1.0, 0.5), first)


def test_shifts_reach_a_tenth_of_the_side_and_no_more():
    rows, columns = centres(augment(spot(500, 24, 24, size=49), 1.0))
    for places in (rows, columns):
        moved = (places - 24).abs()
        assert 4.4 < moved.max() < 0.1 * 49 * 1.1 * 1.2  # zoomed and turned besides
        assert moved.mean() == pytest.approx(2.45, abs=0.3)


def test_half_of_the_faces_are_flipped():
    _, columns = centres(augment(spot(1000, 24, 36), 1.0))
    assert 440 < int((columns < 24).sum()) < 560


def test_rotation_stays_within_ten_degrees():
    faces = spot(500, 24, 4) | spot(500, 24, 43)  # two spots on a level line
    changed = augment(faces, 1.0)
    left, right = changed[:, :, :24], changed[:, :, 24:]
    rise = centres(right)[0] - centres(left)[0]
    run = centres(right)[1] + 24 - centres(left)[1]
    seen = run > 20  # neither spot has left the picture
    angles = torch.rad2deg(torch.atan2(rise, run))[seen].abs()
    assert 8.5 < angles.max() < 11.5


def test_light_moves_a_plain_face_by_its_brightness_only():
    changed = augment(torch.full((500, 8, 8, 1), 128, dtype=torch.uint8), 1.0)
    assert (changed - changed[:, :1, :1]).abs().max() < 1e-3
    shifts = changed[:, 0, 0, 0] - 128
    assert 0.9 * 0.15 * 255 < shifts.abs().max() <= 0.15 * 255 + 1e-3
    assert shifts.mean().abs() < 3


def test_contrast_is_about_the_mean():
    faces = torch.full((500, 32, 32, 1), 118, dtype=torch.uint8)
    faces[:, :, 16:] = 138
    spread = augment(faces, 1.0).flatten(1).std(dim=1)
    assert spread.max() < 10 * 1.25 * 1.05
    assert spread.max() > 11
    assert spread.min() < 9


def test_erasing_blanks_2_to_20_percent_of_a_share_of_the_faces():
    changed = augment(torch.zeros((1000, 48, 48, 1), dtype=torch.uint8), 0.0, 0.3)
    share = (changed == 127.5).float().mean(dim=(1, 2, 3))
    erased = share > 0
    assert erased.float().mean().item() == pytest.approx(0.3, abs=0.05)
    assert share[erased].min() > 0.01
    assert share[erased].max() < 0.22
    assert set(changed.unique().tolist()) == {0.0, 127.5}


def test_zoom_reaches_a_tenth_both_ways():
    faces = torch.zeros((500, 64, 64, 1), dtype=torch.uint8)
    faces[:, 24:40, 24:40] = 255
    inside = augment(faces, 1.0)[..., 0]
    low, high = inside.flatten(1).min(dim=1).values, inside.flatten(1).max(dim=1).values
    area = ((inside - low[:, None, None]) / (high - low)[:, None, None]).sum(dim=(1, 2))
    sides = area.sqrt() / 16
    assert math.log(sides.max()) == pytest.approx(math.log(1.1), abs=0.02)
    assert math.log(sides.min()) == pytest.approx(-math.log(1.1), abs=0.02)


def test_crops_are_windows_inside_the_face():
    ramp = 4 * torch.arange(64, dtype=torch.uint8)
    faces = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64)], dim=2).expand(500, 64, 64, 2)
    changed = augment(faces, 0.0, crop=0.3) / 4  # columns and rows that are seen
    left, right = changed[:, 0, 0, 0], changed[:, 0, -1, 0]
    top, bottom = changed[:, 0, 0, 1], changed[:, -1, 0, 1]
    wide, tall = (right - left) / 63, (bottom - top) / 63  # never negative: no flips
    inside = (left > 0) & (right < 63) & (top > 0) & (bottom < 63)  # else the edge's half pixel is repeated
    area = (wide * tall)[inside]
    assert area.min() == pytest.approx(0.7, abs=0.02)
    assert area.max() > 0.95
    ratio = (wide / tall)[inside]
    assert 1.25 < ratio.max() < 4 / 3 + 0.01
    assert 3 / 4 - 0.01 < ratio.min() < 0.8
    assert left.max() > 12
    assert (63 - right).max() > 12


def test_a_crop_of_nothing_draws_nothing():
    faces = torch.randint(0, 256, (4, 12, 12, 1), dtype=torch.uint8)
    torch.manual_seed(1)
    first = augment(faces, 1.0)
    state = torch.random.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(augment(faces, 1.0, crop=0.0), first)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(1)
    assert not torch.equal(augment(faces, 1.0, crop=0.2), first)


def test_a_crop_of_a_turned_face_is_cut_from_what_was_turned(monkeypatch):
    monkeypatch.setattr("edgefer.training.augment._light", lambda x, strength: x)
    faces = torch.randint(0, 256, (1, 40, 40, 1), dtype=torch.uint8)
    faces = torch.nn.functional.avg_pool2d(faces.permute(0, 3, 1, 2).float(), 9, 1, 4).permute(0, 2, 3, 1).byte()
    torch.manual_seed(1)
    turned = augment(faces, 1.0)
    sides, centres = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.25, -0.25]])
    monkeypatch.setattr("edgefer.training.augment._window", lambda *_: (sides, centres))
    torch.manual_seed(1)
    seen = augment(faces, 1.0, crop=0.75)
    shown = torch.nn.functional.interpolate(turned[:, 5:25, 15:35].permute(0, 3, 1, 2), size=(40, 40), mode="bilinear")
    assert (seen[0, 4:-4, 4:-4, 0] - shown[0, 0, 4:-4, 4:-4]).abs().mean() < 2
    assert (seen - turned).abs().mean() > 5


def test_mix_blends_pairs_in_one_share():
    torch.manual_seed(0)
    faces = torch.arange(6, dtype=torch.float32).view(6, 1, 1, 1).expand(6, 4, 4, 1)
    mixed, others, share = mix(faces, 0.4)
    assert sorted(others.tolist()) == list(range(6))
    assert 0 <= share <= 1
    expected = share * faces[:, 0, 0, 0] + (1 - share) * faces[others][:, 0, 0, 0]
    torch.testing.assert_close(mixed[:, 1, 2, 0], expected)


def test_mix_of_zero_draws_nothing():
    faces = torch.rand(3, 2, 2, 1)
    state = torch.random.get_rng_state()
    same, others, share = mix(faces, 0.0)
    assert same is faces
    assert (others.tolist(), share) == ([0, 1, 2], 1.0)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_salt_and_pepper_take_at_most_their_share():
    faces = torch.full((400, 20, 20, 3), 100, dtype=torch.uint8)
    changed = augment(faces, 0.0, noise=0.2)
    assert set(changed.unique().tolist()) == {0.0, 100.0, 255.0}
    assert torch.equal(changed.amin(dim=3) == 0, changed.amax(dim=3) == 0)  # all channels of a pixel
    shares = (changed[..., 0] != 100).float().mean(dim=(1, 2))
    assert shares.max() < 0.27
    assert shares.mean().item() == pytest.approx(0.1, abs=0.01)
    assert (changed == 0).float().mean().item() == pytest.approx((changed == 255).float().mean().item(), abs=0.01)
