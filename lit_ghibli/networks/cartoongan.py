"""CartoonGAN's generator: a ResNet generator with two convolutions in each strided stage and affine instance norm."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute_later

from lit_ghibli.networks.convolutions import Conv2d, ConvTranspose2d
from lit_ghibli.networks.generator import Generator
from lit_ghibli.networks.initialization import init_weights
from lit_ghibli.networks.normalization import InstanceNorm
from lit_ghibli.networks.outputs import Output
from lit_ghibli.networks.resnet import ResidualBlock


class AffineResidualBlock(ResidualBlock):
    """``ResidualBlock`` with affine instance norm.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.branch[1], self.branch[4] = (InstanceNorm(channels, affine=True) for _ in range(2))


class CartoonGenerator(Generator):
    """c7s1-64, d128, d256, eight residual blocks, u128, u64, c7s1-3, tanh, as published: 11,129,667 parameters.

    A stage down is a convolution of stride 2 and one of stride 1, a stage up a transposed convolution and one of
    stride 1, and a single instance norm and ReLU follow both. Sub-modules have the names of ``BottleneckGenerator``.
    The convolutions start from N(0, 0.02) without biases, the scales of the norms from all of [0, 1].

    Args:
        base_channels: channels at full resolution; the bottleneck has four times as many.
        num_blocks: residual blocks.
        output: ``tanh``, ``residual`` or ``luminance``; see ``Generator``, as for the next three.
        smoothing: of what is painted over the photograph, in pixels.
        outlines: that it may draw, their width in pixels.
        flatten: of photographs before they are translated.
        checkpoint: keep only the residual blocks' inputs for the backward pass and compute what is inside again.

    Attributes:
        size_multiple: heights and widths must be multiples of it, in pixels.
        minimum_size: smallest height and width, in pixels.
        context: an output pixel depends on inputs at most this far away, in pixels, but for the statistics of instance
            norm.

    Source: Chen et al. 2018, Fig. 2 and the authors' code, whose pictures are BGR: its weights have the first
    convolution's input channels and the last one's output channels the other way round.
    """

    def __init__(
        self,
        base_channels: int = 64,
        num_blocks: int = 8,
        output: Output = "tanh",
        smoothing: int = 0,
        outlines: float = 0,
        flatten: float = 0,
        checkpoint: bool = True,
    ) -> None:
        super().__init__(output, smoothing, outlines, flatten)
        self.checkpoint = checkpoint
        full, half, quarter = base_channels, 2 * base_channels, 4 * base_channels
        encoder = {
            "stem": _normalized(full, Conv2d(3, full, 7, padding=3, padding_mode="reflect")),
            "down1": _down(full, half),
            "down2": _down(half, quarter),
        }
        decoder = {
            "up1": _up(quarter, half),
            "up2": _up(half, full),
            "head": Conv2d(full, self.output.channels, 7, padding=3, padding_mode="reflect"),
        }
        self.encoder = nn.Sequential(OrderedDict(encoder))
        self.bottleneck = nn.Sequential(*(AffineResidualBlock(quarter) for _ in range(num_blocks)))
        self.decoder = nn.Sequential(OrderedDict(decoder))
        self.context = 24 + 8 * num_blocks + self.output.context
        init_weights(self)
        for layer in self.modules():
            if isinstance(layer, InstanceNorm):
                nn.init.uniform_(layer.weight)
        self.output.start(self.decoder.head)

    def _values(self, photos: Tensor) -> Tensor:
        hidden = self.encoder(photos)
        for block in self.bottleneck:
            if self.checkpoint and torch.is_grad_enabled():
                hidden = recompute_later(block, hidden, use_reentrant=False, preserve_rng_state=False)
            else:
                hidden = block(hidden)
        return self.decoder(hidden)


def _down(in_channels: int, out_channels: int) -> nn.Sequential:
    strided = Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
    return _normalized(out_channels, strided, Conv2d(out_channels, out_channels, 3, padding=1))


def _up(in_channels: int, out_channels: int) -> nn.Sequential:
    enlarging = ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1)
    return _normalized(out_channels, enlarging, Conv2d(out_channels, out_channels, 3, padding=1))


def _normalized(channels: int, *convolutions: nn.Module) -> nn.Sequential:
    # In place is legal: the norm's backward needs its input, not its output.
    return nn.Sequential(*convolutions, InstanceNorm(channels, affine=True), nn.ReLU(inplace=True))
