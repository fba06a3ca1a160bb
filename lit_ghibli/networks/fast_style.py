"""The feed-forward network of fast neural style transfer, as PyTorch's examples train it."""

import torch.nn.functional as F
from torch import Tensor, nn

from lit_ghibli.networks.convolutions import Conv2d, EnlargingConv2d
from lit_ghibli.networks.normalization import InstanceNorm
from lit_ghibli.networks.sizes import SizedNetwork


class FastStyleGenerator(SizedNetwork):
    """Encoder, residual blocks, decoder with nearest-neighbour enlargement, no tanh; 1,679,235 parameters.

    c9s1-32, 3x3 to 64 and to 128 with stride 2; blocks of two 3x3 each; twice enlargement and 3x3, to 64 and to 32;
    c9s1-3. All padding is reflection. Affine instance norm follows every convolution but the last, and ReLU those
    outside of the blocks and the first in each.

    Args:
        base_channels: channels at full resolution; the blocks have four times as many.
        num_blocks: residual blocks.

    Attributes:
        size_multiple: heights and widths must be multiples of it, in pixels.
        minimum_size: smallest height and width, in pixels.
        context: an output pixel depends on inputs at most this far away, in pixels, but for the statistics of instance
            norm.

    Source: Johnson et al. 2016, with the norm of Ulyanov et al. 2017, and PyTorch's example ``fast_neural_style``.
    """

    def __init__(self, base_channels: int = 32, num_blocks: int = 5) -> None:
        super().__init__()
        full, half, quarter = base_channels, 2 * base_channels, 4 * base_channels
        self.stem = _normalized(3, full, 9)
        self.down1 = _normalized(full, half, 3, stride=2)
        self.down2 = _normalized(half, quarter, 3, stride=2)
        self.blocks = nn.ModuleList(
            nn.Sequential(_normalized(quarter, quarter, 3), nn.ReLU(inplace=True), _normalized(quarter, quarter, 3))
            for _ in range(num_blocks)
        )
        self.up1 = nn.Sequential(EnlargingConv2d(quarter, half), InstanceNorm(half, affine=True))
        self.up2 = nn.Sequential(EnlargingConv2d(half, full), InstanceNorm(full, affine=True))
        self.head = _convolution(full, 3, 9)
        # Full size: stem and head 4 each, down1, up2 and its enlargement 1 each. Half: down2, up1 and its enlargement.
        self.context = 11 + 2 * 3 + 4 * 2 * num_blocks

    def forward(self, photos: Tensor) -> Tensor:
        """Paint ``(N, 3, H, W)`` in ``[-1, 1]``, sides multiples of 4; values may pass the range: clip them.

        Raises:
            UserError: On other sides.
        """
        self.check_size(*photos.shape[-2:])
        features = photos
        for layer in (self.stem, self.down1, self.down2):
            features = F.relu(layer(features), inplace=True)
        for block in self.blocks:
            features = features + block(features)
        for layer in (self.up1, self.up2):
            features = F.relu(layer(features), inplace=True)
        return self.head(features)


def _convolution(in_channels: int, out_channels: int, size: int, stride: int = 1) -> Conv2d:
    return Conv2d(in_channels, out_channels, size, stride=stride, padding=size // 2, padding_mode="reflect")


def _normalized(in_channels: int, out_channels: int, size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(_convolution(in_channels, out_channels, size, stride), InstanceNorm(out_channels, affine=True))
