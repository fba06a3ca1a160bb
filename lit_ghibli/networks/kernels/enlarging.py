"""Nearest-neighbour enlargement and a 3x3 convolution as one, without the large picture between them.

Of twice the size, output positions 2i and 2i + 1 look at the small positions i - 1, i, i and i, i, i + 1. So each of
the four phases of the output, even or odd in rows and columns, is a 2x2 convolution of the small picture, with sums of
weights: 16 products where the definition takes 36.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_EVEN, _ODD = [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


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
    sums = weight.new_tensor([_EVEN, _ODD])
    phases = [
        F.conv2d(padded[..., row : row + height + 1, column : column + width + 1], kernel, bias)
        for row, kernels in enumerate(torch.einsum("aik,bjl,ockl->abocij", sums, sums, weight))
        for column, kernel in enumerate(kernels)
    ]
    return F.pixel_shuffle(torch.stack(phases, dim=2).flatten(1, 2), 2)
