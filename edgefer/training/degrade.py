"""What cameras, codecs and distance do to a face that was sharp: blur, low resolution, gamma, noise and JPEG."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional

BLUR_SIGMA = (0.3, 1.6)
"""Standard deviation of the Gaussian blur, in pixels of a face with 48 a side."""
RESOLUTION = (1 / 3, 1.0)
"""Side of the smaller face that is enlarged again, as a share of the face's own."""
GAMMA = 2.0
"""Largest exponent, and the inverse of the smallest."""
NOISE_SIGMA = 12.0
"""Largest standard deviation of the noise of a sensor, in grey levels."""
JPEG_QUALITY = (15, 90)

_BLOCK = 8
_LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)


def degrade(x: Tensor, probability: float) -> Tensor:
    """Degrade faces at random, where they lie, with PyTorch's global generators.

    Args:
        x: float32 N×H×W×C from 0 to 255.
        probability: chance of each of the five for each face, independently; 0 leaves faces alone.

    Returns:
        The same shape and range. The five are applied in the order in which a picture meets them.
    """
    if probability == 0:
        return x
    out = x.clone()
    for change in (_random_blur, _random_resolution, _random_gamma, _random_noise, _random_jpeg):
        chosen = torch.nonzero(torch.rand(len(x), device=x.device) < probability)[:, 0]
        if len(chosen):
            out[chosen] = change(out[chosen])
    return out


def _between(count: int, low: float, high: float, device: torch.device | None = None) -> Tensor:
    return low + (high - low) * torch.rand(count, device=device)


def _random_blur(x: Tensor) -> Tensor:
    return blur(x, _between(len(x), *BLUR_SIGMA, x.device) * x.shape[1] / 48)


def _random_resolution(x: Tensor) -> Tensor:
    return resolution(x, _between(len(x), *RESOLUTION))  # on the CPU, which makes the matrices


def _random_gamma(x: Tensor) -> Tensor:
    exponents = torch.exp(_between(len(x), -math.log(GAMMA), math.log(GAMMA), x.device))
    return 255 * (x / 255) ** exponents.view(-1, 1, 1, 1)


def _random_noise(x: Tensor) -> Tensor:
    sigma = _between(len(x), 0.0, NOISE_SIGMA, x.device).view(-1, 1, 1, 1)
    return (x + sigma * torch.randn(x.shape, device=x.device)).clamp(0, 255)


def _random_jpeg(x: Tensor) -> Tensor:
    return jpeg(x, torch.randint(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1, (len(x),), device=x.device))


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of faces N×H×W×C, each with its own deviation (N, pixels); weights are renormalised at edges."""
    rows, columns = (_gaussian(side, sigma) for side in x.shape[1:3])
    return _across(x, rows, columns)


def _gaussian(side: int, sigma: Tensor) -> Tensor:
    places = torch.arange(side, dtype=torch.float32, device=sigma.device)
    weights = torch.exp(-(((places[:, None] - places) / sigma[:, None, None]) ** 2) / 2)
    return weights / weights.sum(dim=2, keepdim=True)


def resolution(x: Tensor, shares: Tensor) -> Tensor:
    """Faces N×H×W×C made smaller, to ``shares`` (N, 0…1) of their sides, by area and enlarged again bilinearly."""
    sizes = [[max(1, round(share * side)) for share in shares.tolist()] for side in x.shape[1:3]]
    rows, columns = (
        torch.stack([_there_and_back(side, size) for size in wanted]).to(x.device)
        for side, wanted in zip(x.shape[1:3], sizes, strict=True)
    )
    return _across(x, rows, columns)


@functools.lru_cache(maxsize=1024)
def _there_and_back(side: int, size: int) -> Tensor:
    """The side×side matrix that takes a line of pixels to ``size`` ones and back."""
    small = functional.interpolate(torch.eye(side)[None], size=size, mode="area")
    return functional.interpolate(small, size=side, mode="linear", align_corners=False)[0].T.contiguous()


def _across(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``rows · x · columnsᵀ`` of every channel; matrices N×H×H and N×W×W."""
    return torch.einsum("nih,nhwc,njw->nijc", rows, x, columns)


def jpeg(x: Tensor, quality: Tensor) -> Tensor:
    """Faces N×H×W×C as JPEG gives them back at a quality (int64 N, 1…100): exact for grey but for rounding.

    A channel of colour is treated as a grey picture, without JPEG's chroma. The table is Annex K.1's of ITU-T T.81
    (1992), scaled as libjpeg's ``jpeg_quality_scaling`` does. Sides are filled up to blocks of 8 by their last pixels.
    """
    count, height, width, channels = x.shape
    planes = x.permute(0, 3, 1, 2)
    padded = functional.pad(planes, (0, -width % _BLOCK, 0, -height % _BLOCK), mode="replicate") - 128
    high, wide = (side // _BLOCK for side in padded.shape[2:])
    blocks = padded.reshape(count, channels, high, _BLOCK, wide, _BLOCK).transpose(3, 4)
    cosines = _cosines().to(x.device)
    table = _table(quality).view(count, 1, 1, 1, _BLOCK, _BLOCK)
    kept = torch.round(cosines @ blocks @ cosines.T / table) * table
    back = (cosines.T @ kept @ cosines).transpose(3, 4).reshape(padded.shape) + 128
    return back[:, :, :height, :width].clamp(0, 255).round().permute(0, 2, 3, 1)


def _table(quality: Tensor) -> Tensor:
    scale = torch.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return ((torch.tensor(_LUMINANCE, device=quality.device) * scale[:, None] + 50) // 100).clamp(1, 255).float()


@functools.lru_cache(maxsize=1)
def _cosines() -> Tensor:
    """The orthonormal 8×8 matrix of the discrete cosine transform."""
    places = torch.arange(_BLOCK, dtype=torch.float32)
    waves = torch.cos(math.pi * (2 * places[None, :] + 1) * places[:, None] / (2 * _BLOCK)) / 2
    waves[0] /= math.sqrt(2)
    return waves
