"""Adaptive instance normalisation: a style vector says how strong each feature is."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_ghibli.networks.convolutions import Conv2d, is_eager_cpu_float32
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
        shift, scale = self.affine(style).chunk(2, dim=1)
        if is_eager_cpu_float32(features) and len(style) == 1 == len(features) and self.norm.is_alone:
            # In one pass over the features, where one picture has all channels.
            return F.group_norm(features, features.shape[1], scale[0], shift[0], self.norm.eps)
        return torch.addcmul(shift[..., None, None], scale[..., None, None], self.norm(features))


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
        hidden = F.relu(self.first_norm(self.first(features), style), inplace=True)
        return features + self.second_norm(self.second(hidden), style)
