"""Adaptive instance normalisation: a style vector says how strong each feature is."""

import torch
from torch import Tensor, nn

from lit_ghibli.networks.convolutions import Conv2d
from lit_ghibli.networks.normalization import InstanceNorm


class AdaIN(nn.Module):
    """Instance normalisation whose scale and shift are linear in a style vector.

    Args:
        channels: of the features.
        style_dim: numbers of a style.

    Source: Huang and Belongie 2017, Eq. 8; the linear layer as in Huang et al. 2018, MUNIT, whose shift comes before
    the scale.
    """

    def __init__(self, channels: int, style_dim: int) -> None:
        super().__init__()
        self.norm = InstanceNorm(channels)
        self.affine = nn.Linear(style_dim, 2 * channels)

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        """Give each channel of ``(N, C, H, W)`` the mean and the deviation that ``(N, style_dim)`` asks for."""
        shift, scale = self.affine(style)[..., None, None].chunk(2, dim=1)
        return torch.addcmul(shift, scale, self.norm(features))


class AdaINResidualBlock(nn.Module):
    """Two 3x3 convolutions with reflection padding and AdaIN, a ReLU between them, added to their input.

    Args:
        channels: of input and output.
        style_dim: numbers of a style.
        bias: whether the convolutions add one, which the norm behind them takes away again.

    Source: Huang et al. 2018, MUNIT, appendix B.
    """

    def __init__(self, channels: int, style_dim: int, bias: bool = True) -> None:
        super().__init__()
        self.first, self.second = (
            Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=bias) for _ in range(2)
        )
        self.first_norm, self.second_norm = (AdaIN(channels, style_dim) for _ in range(2))

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        """Transform ``(N, C, H, W)`` to the same shape, in the style ``(N, style_dim)``."""
        hidden = self.first_norm(self.first(features), style).relu()
        return features + self.second_norm(self.second(hidden), style)
