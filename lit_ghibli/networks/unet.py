"""The U-Net generator of pix2pix."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_ghibli.errors import UserError
from lit_ghibli.networks.convolutions import Conv2d, ConvTranspose2d
from lit_ghibli.networks.generator import Generator
from lit_ghibli.networks.initialization import init_weights
from lit_ghibli.networks.normalization import normalization_layer
from lit_ghibli.networks.outputs import Output
from lit_ghibli.networks.sizes import check_size

_MAX_MULTIPLIER = 8
_MINIMUM_DEPTH = 2


class _Noise(nn.Dropout):
    """Dropout that stays on in eval mode if asked for."""

    def __init__(self, p: float, in_eval_mode: bool) -> None:
        super().__init__(p)
        self.in_eval_mode = in_eval_mode

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training or self.in_eval_mode)


# In place is legal: norms and convolutions need their inputs for the backward pass, not their outputs, and
# the decoder's ReLU overwrites a concatenation, which is a copy of the skip connection.
_leaky_relu = partial(nn.LeakyReLU, 0.2, inplace=True)
_relu = partial(nn.ReLU, inplace=True)


def _down(in_channels: int, out_channels: int, norm: str) -> nn.Module:
    return Conv2d(in_channels, out_channels, 4, stride=2, padding=1, bias=norm != "batch")


def _up(in_channels: int, out_channels: int, norm: str) -> nn.Module:
    return ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=norm != "batch")


def _encoder(in_channels: int, widths: list[int], norm: str) -> nn.ModuleList:
    stages = nn.ModuleList([nn.Sequential(_down(in_channels, widths[0], norm), _leaky_relu())])
    for outer, inner in pairwise(widths):
        stages.append(nn.Sequential(_down(outer, inner, norm), normalization_layer(norm, inner), _leaky_relu()))
    return stages


def _bottleneck(outer: int, inner: int, norm: str) -> nn.Sequential:
    return nn.Sequential(_down(outer, inner, norm), _relu(), _up(inner, outer, norm), normalization_layer(norm, outer))


def _decoder(widths: list[int], out_channels: int, norm: str, noise: Callable[[], nn.Module]) -> nn.ModuleList:
    stages = nn.ModuleList()
    for inner, outer in pairwise(reversed(widths)):
        stage = nn.Sequential(_relu(), _up(2 * inner, outer, norm), normalization_layer(norm, outer))
        stages.append(stage.append(noise()) if inner == outer else stage)
    head = ConvTranspose2d(2 * widths[0], out_channels, 4, stride=2, padding=1)
    return stages.append(nn.Sequential(_relu(), head))


class UnetGenerator(Generator):
    """U-Net: C64-C128-C256-C512 x 5 down, CD512 x 3-C512-C256-C128-C64 up with skip connections, tanh.

    4x4 convolutions of stride 2 halve the size ``depth`` times, transposed ones double it as often. Leaky
    ReLU of slope 0.2 on the way down, ReLU on the way up; no norm after the first and the innermost
    convolution. Weights start from N(0, 0.02). 54,413,955 parameters at depth 8, 41,828,995 at depth 7.

    Three parts in a row: ``encoder`` (a stage for each skip connection), ``bottleneck`` (down to
    ``1 / 2**depth`` of the size and up again) and ``decoder`` (whose last stage is the head).

    The function is that of the authors' PyTorch code, whose activations work in place: a skip connection
    carries what its stage hands down, after the leaky ReLU, not what enters that. (The decoder's ReLU makes
    the same of both.) As there, with batch norm no convolution but the head has a bias.

    Dropout is the noise z of the paper. It follows the decoder's stages from and to ``8 * base_channels``:
    the three after the bottleneck at depth 8, ``depth - 5`` in general, as in the authors' code.

    Args:
        in_channels: channels of the photograph.
        out_channels: channels of the picture.
        base_channels: channels after the first convolution; they double up to 8 times that.
        depth: halvings of the size, at least 2. The authors have 8 for 256 pixels and 7 for 128. Sensible
            from 5 on, where the bottleneck lies between stages of full width; noise needs 6.
        norm: ``batch``, ``instance`` or ``none``.
        dropout: probability of a feature to be dropped.
        test_dropout: keep dropout on in eval mode, as the paper does: pictures then differ from call to call.
        output: ``tanh``, ``residual`` or ``luminance``; see ``Generator``, as for the next three.
        smoothing: of what is painted over the photograph, in pixels.
        outlines: that it may draw, their width in pixels.
        flatten: of photographs before they are translated.

    Attributes:
        size_multiple: heights and widths must be multiples of it, in pixels.
        minimum_size: smallest height and width, in pixels.
        context: an output pixel depends on inputs at most this far away, in pixels, but for the statistics
            of norms.

    Source: Isola et al. 2017, appendix 6.1.1.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        base_channels: int = 64,
        depth: int = 8,
        norm: Literal["batch", "instance", "none"] = "batch",
        dropout: float = 0.5,
        test_dropout: bool = False,
        output: Output = "tanh",
        smoothing: int = 0,
        outlines: float = 0,
        flatten: float = 0,
    ) -> None:
        super().__init__(output, smoothing, outlines, flatten, in_channels, out_channels)
        if depth < _MINIMUM_DEPTH:
            raise UserError(f"depth is {depth}; it must be at least {_MINIMUM_DEPTH}, 8 for crops of 256 pixels")
        self.depth = depth
        self.size_multiple = self.minimum_size = 2**depth
        # On either side, 2**depth - 1 pixels through the kernels of one way and twice that through the other's.
        self.context = 3 * (2**depth - 1) + self.output.context
        *widths, innermost = (base_channels * min(2**level, _MAX_MULTIPLIER) for level in range(depth))
        self.encoder = _encoder(in_channels, widths, norm)
        self.bottleneck = _bottleneck(widths[-1], innermost, norm)
        self.decoder = _decoder(widths, self.output.channels, norm, partial(_Noise, dropout, test_dropout))
        init_weights(self)
        self.output.start(self.decoder[-1][-1])

    def _values(self, photos: Tensor) -> Tensor:
        features = [photos]
        for stage in self.encoder:
            features.append(stage(features[-1]))
        features.append(self.bottleneck(features[-1]))
        for stage in self.decoder:  # what is joined is freed before the stage begins: no name keeps it
            features.append(stage(torch.cat([features.pop(-2), features.pop()], dim=1)))
        return features.pop()

    def check_size(self, height: int, width: int) -> None:
        """Refuse sizes that are no multiples of ``size_multiple``; the message names the depth that would fit.

        Raises:
            UserError: on such a size.
        """
        shallower = ""
        if height % self.size_multiple or width % self.size_multiple:  # a tracer's sides are not looked into otherwise
            halvings = min((side & -side).bit_length() - 1 for side in (height, width))  # how often both are even
            if _MINIMUM_DEPTH <= halvings < self.depth:
                shallower = f" or method.generator.depth={halvings}"
        name = f"UnetGenerator of depth {self.depth}"
        check_size(name, (height, width), self.size_multiple, self.minimum_size, shallower)
