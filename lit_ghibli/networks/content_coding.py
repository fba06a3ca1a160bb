"""Encoder of what a picture shows and decoder that paints it in a style: VQGAN's, with AdaIN in the decoder."""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from lit_ghibli.networks.adain import AdaINResidualBlock
from lit_ghibli.networks.attention import Attention, SelfAttention
from lit_ghibli.networks.convolutions import Conv2d
from lit_ghibli.networks.normalization import GroupNorm


class ResnetBlock(nn.Module):
    """Group norm, swish and a 3x3 convolution, twice, with dropout before the second; added to the input.

    Args:
        in_channels: of the input; a 1x1 convolution fits it where the output has another number.
        out_channels: of the output.
        dropout: share of features that are left out in training.

    Source: Esser et al. 2021, VQGAN, appendix; Ho et al. 2020, whose block this is without the time.
    """

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            GroupNorm(in_channels),
            nn.SiLU(),
            Conv2d(in_channels, out_channels, 3, padding=1),
            GroupNorm(out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            Conv2d(out_channels, out_channels, 3, padding=1),
        )
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Transform ``(N, in_channels, H, W)`` to ``(N, out_channels, H, W)``."""
        return self.branch(features).add_(self.shortcut(features))


class _Halving(Conv2d):
    """A 3x3 convolution of stride 2 with one row and column of zeros below and at the right."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(F.pad(features, (0, 1, 0, 1)))


def _middle(channels: int, attention: Attention, dropout: float) -> nn.Sequential:
    first, last = (ResnetBlock(channels, channels, dropout) for _ in range(2))
    return nn.Sequential(first, SelfAttention(channels, attention), last)


def _level(
    in_channels: int, out_channels: int, num_blocks: int, attention: Attention | None, dropout: float
) -> list[nn.Module]:
    """Blocks at one size, each with attention behind it if there is any."""
    layers: list[nn.Module] = []
    for number in range(num_blocks):
        layers.append(ResnetBlock(out_channels if number else in_channels, out_channels, dropout))
        layers += [] if attention is None else [SelfAttention(out_channels, attention)]
    return layers


class ContentEncoder(nn.Module):
    """3x3 convolution; for each multiplier blocks, and a halving between two; middle; group norm, swish, convolution.

    The report's ContentEncoder, and the released one, by their numbers.

    Args:
        out_channels: of the encoding.
        base_channels: channels at full resolution, before they are multiplied.
        multipliers: of the channels, for each resolution from full to lowest.
        num_blocks: residual blocks at each resolution.
        attention: ``linear`` or ``full``; always in the middle.
        attention_strides: where each block has attention, too: pixels of the picture for one position.
        dropout: in all blocks.

    Source: Esser et al. 2021, appendix, as Chen et al. 2022 have it.
    """

    def __init__(
        self,
        out_channels: int,
        base_channels: int,
        multipliers: Sequence[int],
        num_blocks: int,
        attention: Attention,
        attention_strides: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        channels = base_channels
        layers: list[nn.Module] = [Conv2d(3, channels, 3, padding=1)]
        for level, multiplier in enumerate(multipliers):
            layers += [_Halving(channels)] if level else []
            looks = attention if 2**level in attention_strides else None
            layers += _level(channels, base_channels * multiplier, num_blocks, looks, dropout)
            channels = base_channels * multiplier
        layers += [_middle(channels, attention, dropout), GroupNorm(channels), nn.SiLU()]
        self.layers = nn.Sequential(*layers, Conv2d(channels, out_channels, 3, padding=1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Encode ``(N, 3, H, W)`` in ``[-1, 1]`` to ``(N, out_channels, H / stride, W / stride)``."""
        return self.layers(pictures)


class ContentDecoder(nn.Module):
    """3x3 convolution; AdaIN residual blocks; middle; the encoder's levels backwards with one block more each.

    Enlargements are nearest-neighbour, followed by a 3x3 convolution. Nothing squashes the picture.

    Args:
        in_channels: of the encoding.
        base_channels: channels at full resolution, before they are multiplied.
        multipliers: of the channels, for each resolution from full to lowest, as the encoder has them.
        num_blocks: residual blocks of the encoder at each resolution.
        attention: ``linear`` or ``full``; always in the middle.
        attention_strides: where each block has attention, too.
        dropout: in all blocks but AdaIN's.
        num_adain_blocks: residual blocks that the style enters by.
        style_dim: numbers of a style.
        style_hidden: width of two layers between the style and AdaIN, a multilayer perceptron; 0 for none.

    Source: Chen et al. 2022; Esser et al. 2021, appendix.
    """

    def __init__(
        self,
        in_channels: int,
        base_channels: int,
        multipliers: Sequence[int],
        num_blocks: int,
        attention: Attention,
        attention_strides: Sequence[int],
        dropout: float,
        num_adain_blocks: int,
        style_dim: int,
        style_hidden: int,
    ) -> None:
        super().__init__()
        channels = base_channels * multipliers[-1]
        self.perceptron = nn.Sequential()
        for width in (style_dim, style_hidden) if style_hidden else ():
            self.perceptron.extend([nn.Linear(width, style_hidden), nn.ReLU(inplace=True)])
        self.first = Conv2d(in_channels, channels, 3, padding=1)
        self.adain = nn.ModuleList(
            AdaINResidualBlock(channels, style_hidden or style_dim) for _ in range(num_adain_blocks)
        )
        layers: list[nn.Module] = [_middle(channels, attention, dropout)]
        for level, multiplier in reversed(list(enumerate(multipliers))):
            looks = attention if 2**level in attention_strides else None
            layers += _level(channels, base_channels * multiplier, num_blocks + 1, looks, dropout)
            channels = base_channels * multiplier
            layers += [nn.Upsample(scale_factor=2), Conv2d(channels, channels, 3, padding=1)] if level else []
        layers += [GroupNorm(channels), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.last = Conv2d(channels, 3, 3, padding=1)

    def forward(self, encoding: Tensor, style: Tensor) -> Tensor:
        """Paint ``(N, in_channels, h, w)`` in the style ``(N, style_dim)``: ``(N, 3, h * stride, w * stride)``."""
        hidden, style = self.first(encoding), self.perceptron(style)
        for block in self.adain:
            hidden = block(hidden, style)
        return self.last(self.layers(hidden))


def context(multipliers: Sequence[int], num_blocks: int, num_adain_blocks: int) -> int:
    """How far an output pixel of encoder and decoder looks, in pixels, but for norms and attention."""
    levels = len(multipliers)
    strides = [2**level for level in range(levels)]
    convolutions = 2 * num_blocks + 2 * (num_blocks + 1) + 1  # of both, and behind an enlargement or at the end
    reach = convolutions * sum(strides) + sum(2 * stride for stride in strides[:-1])  # and before a halving
    return reach + math.prod([strides[-1], 4 + 1 + 1 + 2 * num_adain_blocks + 4])
