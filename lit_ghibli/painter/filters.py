"""Small filters that the painter's steps share: Gaussian blur, differences, sampling between pixels.

Everything takes and returns batches (B, C, H, W) of float tensors; distances are in pixels, and borders are mirrored.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def blur(picture: Tensor, sigma: float) -> Tensor:
    """The picture under a Gaussian of `sigma` pixels, cut at three sigma; of sum 1, so that a constant stays."""
    for axis in (-1, -2):
        # Mirroring needs fewer pixels than there are: tiny pictures get the widest kernel that fits.
        radius = min(round(3 * sigma), picture.shape[axis] - 1)
        if radius < 1:
            continue
        half = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(radius + 1)]
        total = half[0] + 2 * sum(half[1:])
        picture = _along(picture, [weight / total for weight in half], axis)
    return picture


def _along(picture: Tensor, half: list[float], axis: int) -> Tensor:
    """Correlation with a symmetric kernel along one axis, given from its centre outwards; borders mirrored.

    A sum of shifted pictures: torch's depthwise convolution takes several times as long on a CPU.
    """
    radius = len(half) - 1
    size = picture.shape[axis]
    padded = F.pad(picture, (radius, radius, 0, 0) if axis == -1 else (0, 0, radius, radius), mode="reflect")
    result = half[0] * picture
    for distance in range(1, radius + 1):
        pair = padded.narrow(axis, radius - distance, size) + padded.narrow(axis, radius + distance, size)
        result.add_(pair, alpha=half[distance])
    return result


def derivatives(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives (along x, along y) per pixel: central differences, smoothed across (Scharr's 3, 10, 3)."""
    padded = F.pad(picture, (1, 1, 1, 1), mode="replicate")
    left, right = padded[..., :-2], padded[..., 2:]
    top, bottom = padded[..., :-2, :], padded[..., 2:, :]
    dx = right - left
    dy = bottom - top
    dx = (3 * dx[..., :-2, :] + 10 * dx[..., 1:-1, :] + 3 * dx[..., 2:, :]) / 32
    dy = (3 * dy[..., :-2] + 10 * dy[..., 1:-1] + 3 * dy[..., 2:]) / 32
    return dx, dy


def pixel_grid(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates (x, y) of every pixel, each (1, H, W)."""
    height, width = picture.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, dtype=picture.dtype, device=picture.device),
        torch.arange(width, dtype=picture.dtype, device=picture.device),
        indexing="ij",
    )
    return x[None], y[None]


def sample(picture: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The picture (B, C, H, W) at the points (x, y) (B, H, W) in pixels, bilinear, borders repeated."""
    height, width = picture.shape[-2:]
    grid = torch.stack([x * (2 / width) + (1 / width - 1), y * (2 / height) + (1 / height - 1)], dim=-1)
    return F.grid_sample(picture, grid, padding_mode="border", align_corners=False)
