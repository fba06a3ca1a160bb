"""The generators of AnimeGANv2: layer norm, inverted residual blocks, bilinear enlargement."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_ghibli.networks.convolutions import Conv2d
from lit_ghibli.networks.generator import Generator
from lit_ghibli.networks.kernels.padding import reflection_pad
from lit_ghibli.networks.normalization import LayerNorm
from lit_ghibli.networks.outputs import Output
from lit_ghibli.networks.upsampling import Sampling, bilinear_upsample


class _Block(nn.Module):
    """Leaky ReLU of slope 0.2 unless the input is past one, reflection padding, a convolution without bias, layer norm.

    With ``upsample`` bilinear enlargement follows the leaky ReLU.

    With a stride of 2 the size is halved, and only the bottom and the right are padded: windows begin at every other
    pixel from the first one. (PyTorch's padding of 1 would begin them one pixel earlier.)

    A block's activation is thus the next one's first step. There it commutes with the padding, and works in place on
    the padded copy, which the convolution keeps for the backward pass anyway: two tensors of a layer are kept, not
    three. In place is legal, since norms and padding do not need their output for it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        depthwise: bool = False,
        activated: bool = False,
        upsample: Sampling | None = None,
    ) -> None:
        super().__init__()
        reach = kernel_size // 2
        self.padding, self.activated = (0, 1, 0, 1) if stride == 2 else (reach,) * 4, activated
        self.upsample = upsample
        groups = in_channels if depthwise else 1
        self.convolution = Conv2d(in_channels, out_channels, kernel_size, stride, groups=groups, bias=depthwise)
        self.norm = LayerNorm(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        return self.norm(self.convolution(self._prepared(features)))

    def _prepared(self, features: Tensor) -> Tensor:
        # Apart from forward, where a name would keep what is enlarged or padded longer than the convolution needs it.
        activated = self.activated
        if self.upsample:
            features = bilinear_upsample(features if activated else _activate(features), self.upsample)
            activated = True
        if any(self.padding):
            features = reflection_pad(features, self.padding)
        return features if activated else _activate(features)

    def extra_repr(self) -> str:
        enlarged = f", upsample={self.upsample!r}" if self.upsample else ""
        return f"padding={self.padding}, activated={self.activated}{enlarged}"


def _activate(features: Tensor) -> Tensor:
    return F.leaky_relu(features, 0.2, inplace=True)


class _Pointwise(Conv2d):
    """Leaky ReLU and a 1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = False) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(_activate(input))


class _InvertedResidual(nn.Module):
    """1x1 to twice the channels, 3x3 depthwise with bias, 1x1; added to the input where channels agree."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.added = in_channels == out_channels
        self.expand = _Block(in_channels, 2 * in_channels, 1, activated=self.added)  # as another such block gives it
        self.depthwise = _Block(2 * in_channels, 2 * in_channels, depthwise=True)
        self.project = _Pointwise(2 * in_channels, out_channels)
        self.norm = LayerNorm(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        branch = self.norm(self.project(self.depthwise(self.expand(features))))
        return branch.add_(features) if self.added else branch


class _Residual(nn.Module):
    """1x1 to a quarter of the channels, 3x3, 1x1 without norm, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            _Block(channels, channels // 4, 1, activated=True),
            _Block(channels // 4, channels // 4),
            _Pointwise(channels // 4, channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.branch(features).add_(features)


class AnimeGenerator(Generator):
    """The generator of AnimeGANv2: a bottleneck of inverted residual blocks between two halvings and two doublings.

    c7s1-32; d64, c64; d128, c128; c128, four inverted residual blocks, c128; u128, c128; u64, c64, c7s1-32; c1s1-3,
    tanh. c, d and u are 3x3 convolutions with reflection padding, layer norm and leaky ReLU: of stride 1, of stride 2,
    and after bilinear enlargement. Only depthwise convolutions have biases. 2,143,552 parameters.

    Weights start from He's truncated normal, whose fan-in for depthwise convolutions counts all channels, as
    TensorFlow 1 has it.

    Args:
        base_channels: channels at full resolution; the bottleneck has eight times as many.
        upsample: ``legacy`` as published, or ``half_pixel`` or ``align_corners``, for weights that were trained so; see
            ``lit_ghibli.networks.upsampling``. With ``align_corners`` what belongs where depends on the picture's size,
            so that tiles of a large one meet up to one pixel apart.
        output: ``tanh``, ``residual`` or ``luminance``; see ``Generator``, as for the next three.
        smoothing: of what is painted over the photograph, in pixels.
        outlines: that it may draw, their width in pixels.
        flatten: of photographs before they are translated.
        head_bias: whether the last convolution has a bias, as in a PyTorch port's published weights.

    Attributes:
        size_multiple: heights and widths must be multiples of it, in pixels.
        minimum_size: smallest height and width, in pixels.
        context: an output pixel depends on inputs at most this far away, in pixels, but for the statistics of layer
            norm.

    Source: the authors' code, by the project page of AnimeGANv2; Sandler et al. 2018 for inverted residuals.
    """

    def __init__(
        self,
        base_channels: int = 32,
        upsample: Sampling = "legacy",
        output: Output = "tanh",
        smoothing: int = 0,
        outlines: float = 0,
        flatten: float = 0,
        head_bias: bool = False,
    ) -> None:
        super().__init__(output, smoothing, outlines, flatten)
        self.context = 51 + self.output.context
        full, half, quarter, wide = (base_channels * factor for factor in (1, 2, 4, 8))
        self.encoder = nn.Sequential(
            _Block(3, full, 7, activated=True),
            _Block(full, half, stride=2),
            _Block(half, half),
            _Block(half, quarter, stride=2),
            _Block(quarter, quarter),
        )
        self.bottleneck = nn.Sequential(
            _Block(quarter, quarter),
            _InvertedResidual(quarter, wide),
            *(_InvertedResidual(wide, wide) for _ in range(3)),
            _Block(wide, quarter, activated=True),
        )
        self.decoder = nn.Sequential(
            _Block(quarter, quarter, upsample=upsample),
            _Block(quarter, quarter),
            _Block(quarter, half, upsample=upsample),
            _Block(half, half),
            _Block(half, full, 7),
            _Pointwise(full, self.output.channels, bias=head_bias),
        )
        _init_weights(self)
        self.output.start(self.decoder[-1])

    def _values(self, photos: Tensor) -> Tensor:
        return self.decoder(self.bottleneck(self.encoder(photos)))


class LightAnimeGenerator(Generator):
    """The light generator of AnimeGANv2: three halvings, four residual blocks, three doublings with skip connections.

    c7s1-32; d32, c64; d64, c128; d64, c128; four residual blocks; u128 + skip, c64; u64 + skip, c32; u32 + skip,
    c7s1-32; c1s1-3, tanh. c, d and u and the start of the weights are those of :class:`AnimeGenerator`; a skip adds
    the encoder's features of the same size. No convolution has a bias. 698,240 parameters.

    Args:
        base_channels: channels at full resolution; the bottleneck has four times as many.
        upsample: as in :class:`AnimeGenerator`.
        output: ``tanh``, ``residual`` or ``luminance``; see ``Generator``, as for the next three.
        smoothing: of what is painted over the photograph, in pixels.
        outlines: that it may draw, their width in pixels.
        flatten: of photographs before they are translated.

    Attributes:
        size_multiple: heights and widths must be multiples of it, in pixels.
        minimum_size: smallest height and width, in pixels.
        context: an output pixel depends on inputs at most this far away, in pixels, but for the statistics of layer
            norm.

    Source: the authors' code, by the project page of AnimeGANv2.
    """

    size_multiple = 8
    minimum_size = 16

    def __init__(
        self,
        base_channels: int = 32,
        upsample: Sampling = "legacy",
        output: Output = "tanh",
        smoothing: int = 0,
        outlines: float = 0,
        flatten: float = 0,
    ) -> None:
        super().__init__(output, smoothing, outlines, flatten)
        self.context = 86 + self.output.context
        full, half, quarter = (base_channels * factor for factor in (1, 2, 4))
        self.stem = _Block(3, full, 7, activated=True)
        self.down1 = nn.Sequential(_Block(full, full, stride=2), _Block(full, half))
        self.down2 = nn.Sequential(_Block(half, half, stride=2), _Block(half, quarter))
        self.down3 = nn.Sequential(_Block(quarter, half, stride=2), _Block(half, quarter))
        self.bottleneck = nn.Sequential(*(_Residual(quarter) for _ in range(4)))
        self.up1 = _Block(quarter, quarter, activated=True, upsample=upsample)
        self.merge1 = _Block(quarter, half, activated=True)
        self.up2 = _Block(half, half, upsample=upsample)
        self.merge2 = _Block(half, full, activated=True)
        self.up3 = _Block(full, full, upsample=upsample)
        self.merge3 = _Block(full, full, 7, activated=True)
        self.head = _Pointwise(full, self.output.channels)
        _init_weights(self)
        self.output.start(self.head)

    def _values(self, photos: Tensor) -> Tensor:
        full = self.stem(photos)
        half = self.down1(full)
        quarter = self.down2(half)
        hidden = self.bottleneck(_activate(self.down3(quarter)))
        for up, merge, skip in (
            (self.up1, self.merge1, quarter),
            (self.up2, self.merge2, half),
            (self.up3, self.merge3, full),
        ):
            hidden = merge(_activate(up(hidden)) + _activate(skip))
        return self.head(hidden)


@torch.no_grad()
def _init_weights(network: nn.Module) -> None:
    """He's variance 2 / fan-in, drawn from a normal cut off at two standard deviations, which the 1.3 makes up for."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            std = (1.3 * 2 / (layer.in_channels * layer.kernel_size[0] ** 2)) ** 0.5
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
