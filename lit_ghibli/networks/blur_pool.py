"""Blur pooling: to half the size without the aliasing of strided convolutions."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_ghibli.networks.convolutions import is_eager_cpu_float32

# Channels at a time on the CPU: the padded copy and the kernel's own are as large as what is blurred.
_PORTION = 16

Downsample = Literal["stride", "blur"]  # convolutions of stride 2, or of stride 1 and a blur pool


class BlurPool(nn.Module):
    """Every second position of features that were blurred by [1, 2, 1] / 4 along rows and columns; reflected at edges.

    It has no weights, and no entry in a state dict: the kernel is made anew in every pass.

    Source: Zhang 2019, "Making Convolutional Networks Shift-Invariant Again"; used by Park et al. 2020's released code.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Blur ``(N, C, H, W)``, H and W at least 2, to ``(N, C, ceil(H / 2), ceil(W / 2))``."""
        channels = features.shape[1]
        row = 2 - (torch.arange(3, dtype=features.dtype, device=features.device) - 1).abs()  # without a copy to a GPU
        kernel = row.outer(row) / 16
        portions = features.split(_PORTION if is_eager_cpu_float32(features) else channels, dim=1)
        blurred = [_blur(portion, kernel) for portion in portions]
        return torch.cat(blurred, dim=1) if len(blurred) > 1 else blurred[0]


def _blur(features: Tensor, kernel: Tensor) -> Tensor:
    channels = features.shape[1]
    padded = F.pad(features, (1, 1, 1, 1), mode="reflect")
    return F.conv2d(padded, kernel.expand(channels, 1, 3, 3), stride=2, groups=channels)
