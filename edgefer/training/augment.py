"""Augmentation of whole batches as tensors: one resampling for rotation, shift, zoom and flip, then light."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

ROTATION_DEGREES = 10.0
SHIFT = 0.10
ZOOM = 0.10
BRIGHTNESS = 0.15
CONTRAST = 0.25
WINDOW_RATIO = 4 / 3


def augment(faces: Tensor, strength: float, erasing: float = 0.0, noise: float = 0.0, crop: float = 0.0) -> Tensor:
    """Change each face of a batch at random, where it lies, with PyTorch's global generator of that device.

    Args:
        faces: uint8 N×H×W×C.
        strength: multiplies the ranges of rotation, shift, zoom, brightness and contrast; 0 leaves faces alone.
        erasing: probability that a rectangle of a face (2 to 20 % of its area) becomes grey (127.5).
        noise: maximum share of a face's pixels that become black or white (salt and pepper).
        crop: maximum share of a face's area that is cut off around a window, which is then stretched to the face's
            size; its sides are in a ratio of 3:4 to 4:3.

    Returns:
        float32 N×H×W×C from 0 to 255.
    """
    x = faces.to(torch.float32)
    if strength > 0 or crop > 0:
        x = _move(x, strength, crop)
    if strength > 0:
        x = _light(x, strength)
    if erasing > 0:
        x = _erase(x, erasing)
    if noise > 0:
        x = _salt_and_pepper(x, noise)
    return x


def mix(faces: Tensor, alpha: float) -> tuple[Tensor, Tensor, float]:
    """Blend each face of a batch with another one (mixup, Zhang et al. 2018, https://arxiv.org/abs/1710.09412).

    Args:
        faces: float32 N×H×W×C.
        alpha: parameter of the Beta(α, α) that the batch's share is sampled from; 0 leaves faces alone.

    Returns:
        The blended faces, which face each was blended with (int64 N), and its own share, from 0 to 1.
    """
    if alpha == 0:
        return faces, torch.arange(len(faces), device=faces.device), 1.0
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    others = torch.randperm(len(faces), device=faces.device)
    return torch.lerp(faces[others], faces, share), others, share


def _uniform(x: Tensor, reach: float) -> Tensor:
    """A number from −``reach`` to ``reach`` for each face of ``x``."""
    return (torch.rand(len(x), device=x.device) * 2 - 1) * reach


def _move(x: Tensor, strength: float, crop: float) -> Tensor:
    """Bilinear; what comes from outside repeats the edge. Shift is a fraction of the side."""
    count, height, width, _ = x.shape
    angle = _uniform(x, math.radians(ROTATION_DEGREES) * strength)
    zoom = torch.exp(_uniform(x, math.log1p(ZOOM) * strength))
    flip = torch.where(torch.rand(count, device=x.device) < (0.5 if strength > 0 else 0.0), -1.0, 1.0)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    across = _uniform(x, 2 * SHIFT * strength)  # the grid is 2 wide
    down = _uniform(x, 2 * SHIFT * strength)
    rows = torch.stack(
        [flip * cos, -flip * sin * height / width, across, sin * width / height, cos, down],
        dim=1,
    ).view(count, 2, 3)
    if crop > 0:
        rows = _seen_through(rows, *_window(x, crop))
    grid = functional.affine_grid(rows, [count, 1, height, width], align_corners=False)
    moved = functional.grid_sample(
        x.permute(0, 3, 1, 2), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return moved.permute(0, 2, 3, 1)


def _window(x: Tensor, crop: float) -> tuple[Tensor, Tensor]:
    """Sides and centres of windows inside each face of ``x``, float32 N×2 (across, down); a face is from −1 to 1."""
    count, device = len(x), x.device
    area = 1 - crop * torch.rand(count, device=device)
    limit = torch.log(area).neg().clamp_max(math.log(WINDOW_RATIO))  # no side above 1
    stretch = (torch.rand(count, device=device) * 2 - 1) * limit
    sides = torch.stack([torch.sqrt(area * torch.exp(stretch)), torch.sqrt(area * torch.exp(-stretch))], dim=1)
    return sides, (torch.rand(count, 2, device=device) * 2 - 1) * (1 - sides)


def _seen_through(rows: Tensor, sides: Tensor, centres: Tensor) -> Tensor:
    """Affine maps N×2×3 that see only a window of what ``rows`` see."""
    turned = rows[:, :, :2]
    return torch.cat([turned * sides[:, None, :], turned @ centres[:, :, None] + rows[:, :, 2:]], dim=2)


def _light(x: Tensor, strength: float) -> Tensor:
    """Contrast about the face's own mean, then brightness; each face has a factor and a term."""
    factor = torch.exp(_uniform(x, math.log1p(CONTRAST) * strength)).view(-1, 1, 1, 1)
    term = _uniform(x, 255 * BRIGHTNESS * strength).view(-1, 1, 1, 1)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x * factor + (mean * (1 - factor) + term)).clamp_(0, 255)


def _erase(x: Tensor, probability: float) -> Tensor:
    (count, height, width, _), device = x.shape, x.device
    area = 0.02 + 0.18 * torch.rand(count, device=device)
    ratio = torch.exp(_uniform(x, math.log(3.0)))
    tall, wide = torch.sqrt(area * ratio) * height, torch.sqrt(area / ratio) * width
    top = torch.rand(count, device=device) * (height - tall).clamp_min(0)
    left = torch.rand(count, device=device) * (width - wide).clamp_min(0)
    spared = torch.rand(count, device=device) >= probability
    top = top.masked_fill(spared, float(height))  # below the face: nothing is erased
    rows, columns = (torch.arange(side, device=device)[None, :] for side in (height, width))
    down = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
    across = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    return x.masked_fill((down[:, :, None] & across[:, None, :])[..., None], 127.5)


def _salt_and_pepper(x: Tensor, share: float) -> Tensor:
    count, height, width, _ = x.shape
    own = share * torch.rand(count, device=x.device).view(-1, 1, 1, 1)
    chance = torch.rand(count, height, width, 1, device=x.device)
    return x.masked_fill(chance < own / 2, 0.0).masked_fill(chance > 1 - own / 2, 255.0)
