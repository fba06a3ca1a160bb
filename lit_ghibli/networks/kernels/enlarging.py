"""Nearest-neighbour enlargement and a 3x3 convolution as one, without the large picture between them.

Of twice the size, output positions 2i and 2i + 1 look at the small positions i - 1, i, i and i, i, i + 1. So each of
the four phases of the output, even or odd in rows and columns, is a 2x2 convolution of the small picture, with sums of
weights: 16 products where the definition takes 36.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def convolve_enlarged(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(N, C, H, W) -> (N, K, 2 H, 2 W): ``F.conv2d`` of what is enlarged and then padded by 1 with reflection.

    Reflection at the border of what is enlarged is repetition of the small picture's last position.

    Args:
        x: What is enlarged.
        weight: ``(K, C, 3, 3)``.
        bias: ``(K,)`` or ``None``.
    """
    height, width = x.shape[-2:]
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    phases = [
        F.conv2d(padded[..., row : row + height + 1, column : column + width + 1], kernel, bias)
        for row, kernels in enumerate(_even_and_odd(weight, axis=2))
        for column, kernel in enumerate(_even_and_odd(kernels, axis=3))
    ]
    return F.pixel_shuffle(torch.stack(phases, dim=2).flatten(1, 2), 2)


def _even_and_odd(weight: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Three weights along an axis as two, of what even and of what odd positions of the output look at."""
    first, middle, last = weight.split(1, axis)
    return torch.cat([first, middle + last], axis), torch.cat([first + middle, last], axis)
