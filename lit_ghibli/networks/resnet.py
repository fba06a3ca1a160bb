"""The ResNet generator of Johnson et al. that CycleGAN and its successors share."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from lit_ghibli.networks.blur_pool import BlurPool, Downsample
from lit_ghibli.networks.convolutions import Conv2d, ConvTranspose2d
from lit_ghibli.networks.gated_attention import GatedAttention
from lit_ghibli.networks.generator import Generator
from lit_ghibli.networks.initialization import Initialization, init_weights
from lit_ghibli.networks.normalization import InstanceNorm
from lit_ghibli.networks.outputs import Output

Upsample = Literal["transposed", "resize", "bilinear"]

TAPS = ("pixels", "padded_pixels", "down1", "down2", "bottleneck_in", "first_block", "bottleneck_middle")
SUITE_TAPS = ("pixels", "down1", "down2", "bottleneck_in", "bottleneck_middle")
RELEASED_TAPS = ("padded_pixels", "down1", "down2", "first_block", "bottleneck_middle")


class Detailed(NamedTuple):
    """What a generator gives when features are asked for, or no picture; what is not asked for is None or empty."""

    picture: Tensor | None  # (N, out_channels, H, W)
    features: dict[str, Tensor]  # tap -> (N, C, h, w)


def _normalized(convolution: nn.Module, channels: int) -> nn.Sequential:
    # In place is legal: the norm's backward needs its input, not its output.
    return nn.Sequential(convolution, InstanceNorm(channels), nn.ReLU(inplace=True))


def _downsampling(in_channels: int, out_channels: int, downsample: str) -> nn.Sequential:
    if downsample == "stride":
        return _normalized(Conv2d(in_channels, out_channels, 3, stride=2, padding=1), out_channels)
    if downsample == "blur":
        return _normalized(Conv2d(in_channels, out_channels, 3, padding=1), out_channels).append(BlurPool())
    raise ValueError(f"downsample is {downsample!r}; it must be 'stride' or 'blur'")


def _upsampling(in_channels: int, out_channels: int, upsample: str) -> nn.Module:
    if upsample == "transposed":
        return ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1)
    if upsample == "resize":
        convolution = Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="reflect")
        return nn.Sequential(nn.Upsample(scale_factor=2), convolution)
    if upsample == "bilinear":
        enlargement = nn.Upsample(scale_factor=2, mode="bilinear")
        return nn.Sequential(enlargement, Conv2d(in_channels, out_channels, 3, padding=1))
    raise ValueError(f"upsample is {upsample!r}; it must be 'transposed', 'resize' or 'bilinear'")


def two_convolutions(channels: int) -> nn.Sequential:
    """Two 3x3 convolutions with reflection padding and instance norm, a ReLU between them; the size is kept."""
    first, second = (Conv2d(channels, channels, 3, padding=1, padding_mode="reflect") for _ in range(2))
    return nn.Sequential(*_normalized(first, channels), second, InstanceNorm(channels))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with reflection padding and instance norm, added to their input.

    No ReLU follows the sum.

    Args:
        channels: of input and output.

    Source: Johnson et al. 2016, supplementary material; padding and norm of Zhu et al. 2017.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = two_convolutions(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Transform ``(N, C, H, W)`` to the same shape."""
        return self.branch(features).add_(features)


class BottleneckGenerator(Generator):
    """Generator around a bottleneck of equal blocks: c7s1-64, d128, d256, blocks, u128, u64, c7s1-3, tanh.

    Three sub-modules in a row: ``encoder`` (``stem``, ``down1``, ``down2``), ``bottleneck`` (the blocks) and
    ``decoder`` (``up1``, ``up2``, ``head``).

    Features can be tapped at the depths that ``TAPS`` names: ``pixels``, the images themselves; ``padded_pixels``,
    with the 3 pixels around them that the first convolution reflects; ``down1`` and ``down2``, outputs of the two
    convolutions on the way down before their norm; ``bottleneck_in``, before the first block; ``first_block``, after
    it; ``bottleneck_middle``, after the first half of the blocks, rounded up. ``RELEASED_TAPS`` of nine blocks with
    ``downsample='blur'`` are layers 0, 4, 8, 12, 16 of CUT's released generator; ``SUITE_TAPS`` are like them.

    Deviations, options that the named recipes leave off:

    - those of ``Generator``.
    - ``upsample='resize'``: nearest-neighbour enlargement and a 3x3 convolution replace the transposed
      convolutions, whose uneven overlap shows as a checkerboard (Odena et al. 2016).

    What the released code of CUT, FastCUT and Scenimefy has instead of strided and transposed convolutions, and a
    start from N(0, 0.02):

    - ``downsample='blur'``: a convolution at the full size, norm and ReLU, then ``BlurPool``.
    - ``upsample='bilinear'``: bilinear enlargement and a 3x3 convolution.
    - ``initialization='xavier'``: Glorot and Bengio's normal with a gain of 0.02.

    Args:
        make_block: number of channels -> a block that keeps the shape of its input.
        num_blocks: blocks in the bottleneck.
        in_channels: channels of the photograph.
        out_channels: channels of the picture.
        base_channels: channels at full resolution; the bottleneck has four times as many.
        output: ``tanh``, ``residual`` or ``luminance``; see ``Generator``, as for the next three.
        smoothing: of what is painted over the photograph, in pixels.
        outlines: that it may draw, their width in pixels.
        flatten: of photographs before they are translated.
        upsample: ``transposed``, ``resize`` or ``bilinear``.
        downsample: ``stride`` or ``blur``.
        initialization: ``normal`` or ``xavier``.
        attention: whether ``GatedAttention`` follows the middle block: an option that no published recipe here has.

    Attributes:
        size_multiple: heights and widths must be multiples of it, in pixels.
        minimum_size: smallest height and width, in pixels.
        context: an output pixel depends on inputs at most this far away, in pixels, but for the statistics
            of instance norm, and attention.
        feature_channels: tap -> number of channels.

    Source: Zhu et al. 2017, appendix 7.2; Johnson et al. 2016; taps of Park et al. 2020.
    """

    def __init__(
        self,
        make_block: Callable[[int], nn.Module],
        num_blocks: int,
        in_channels: int = 3,
        out_channels: int = 3,
        base_channels: int = 64,
        output: Output = "tanh",
        smoothing: int = 0,
        outlines: float = 0,
        flatten: float = 0,
        upsample: Upsample = "transposed",
        downsample: Downsample = "stride",
        initialization: Initialization = "normal",
        attention: bool = False,
    ) -> None:
        super().__init__(output, smoothing, outlines, flatten, in_channels, out_channels)
        full, half, quarter = base_channels, 2 * base_channels, 4 * base_channels
        encoder = {
            "stem": _normalized(Conv2d(in_channels, full, 7, padding=3, padding_mode="reflect"), full),
            "down1": _downsampling(full, half, downsample),
            "down2": _downsampling(half, quarter, downsample),
        }
        decoder = {
            "up1": _normalized(_upsampling(quarter, half, upsample), half),
            "up2": _normalized(_upsampling(half, full, upsample), full),
            "head": Conv2d(full, self.output.channels, 7, padding=3, padding_mode="reflect"),
        }
        widths = (in_channels, in_channels, half, quarter, quarter, quarter, quarter)
        self.feature_channels = dict(zip(TAPS, widths, strict=True))
        self.encoder = nn.Sequential(OrderedDict(encoder))
        self.bottleneck = nn.Sequential(*(make_block(quarter) for _ in range(num_blocks)))
        self.decoder = nn.Sequential(OrderedDict(decoder))
        self._middle = (num_blocks + 1) // 2
        self.attention = GatedAttention(quarter) if attention else None
        self._ends_context = 16 + 3 * (downsample == "blur") + 2 * (upsample == "bilinear") + self.output.context
        init_weights(self, initialization=initialization)
        self.output.start(self.decoder.head)

    def forward(self, photos: Tensor, *, picture: bool = True, features: bool = False) -> Tensor | Detailed:
        """Translate photographs, and give what is computed on the way.

        Args:
            photos: ``(N, in_channels, H, W)`` in ``[-1, 1]``; H and W multiples of 4, at least 8.
            picture: whether to make the picture. Without, the pass ends after the middle block.
            features: whether to give the features at all taps.

        Returns:
            Pictures ``(N, out_channels, H, W)``, in ``[-1, 1]`` for tanh, when nothing else is asked for;
            otherwise ``Detailed``.

        Raises:
            UserError: on a height or width that is too small or no multiple of ``size_multiple``.
        """
        blocks = self.bottleneck if picture else islice(self.bottleneck, self._middle)
        detailed = self._run(photos, blocks, picture, features)
        return detailed if features or not picture else detailed.picture

    def _run(
        self, photos: Tensor, blocks: Iterable[Callable[[Tensor], Tensor]], picture: bool, features: bool
    ) -> Detailed:
        """A pass through these blocks of the bottleneck."""
        self.check_size(*photos.shape[-2:])
        photos = self.flatten(photos)
        hidden, taps = self._encode(photos, features)
        for number, block in enumerate(blocks, start=1):
            hidden = block(hidden)
            if number == self._middle and self.attention is not None:
                hidden = self.attention(hidden)
            if features and number == 1:
                taps["first_block"] = hidden
            if features and number == self._middle:
                taps["bottleneck_middle"] = hidden
        return Detailed(self.output(self.decoder(hidden), photos) if picture else None, taps)

    def _encode(self, photos: Tensor, tap: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """The bottleneck's input, and the taps up to there if asked for."""
        if not tap:  # nor are they kept: one of them is larger than the state that the blocks pass on
            return self.encoder(photos), {}
        taps = {"pixels": photos, "padded_pixels": F.pad(photos, (3, 3, 3, 3), mode="reflect")}
        hidden = self.encoder.stem(photos)
        for name in ("down1", "down2"):
            convolution, *rest = getattr(self.encoder, name)
            taps[name] = hidden = convolution(hidden)
            for layer in rest:
                hidden = layer(hidden)
        return hidden, taps | {"bottleneck_in": hidden}


class ResnetGenerator(BottleneckGenerator):
    """``BottleneckGenerator`` of residual blocks.

    11,378,179 parameters with nine blocks, 7,837,699 with six.

    Args:
        in_channels: channels of the photograph.
        out_channels: channels of the picture.
        base_channels: channels at full resolution; the bottleneck has four times as many.
        num_blocks: residual blocks.
        output: ``tanh``, ``residual`` or ``luminance``; see ``Generator``, as for the next three.
        smoothing: of what is painted over the photograph, in pixels.
        outlines: that it may draw, their width in pixels.
        flatten: of photographs before they are translated.
        upsample: ``transposed``, ``resize`` or ``bilinear``.
        downsample: ``stride`` or ``blur``.
        initialization: ``normal`` or ``xavier``.
        attention: whether ``GatedAttention`` follows the middle block.

    Source: Zhu et al. 2017, appendix 7.2; Johnson et al. 2016.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        base_channels: int = 64,
        num_blocks: int = 9,
        output: Output = "tanh",
        smoothing: int = 0,
        outlines: float = 0,
        flatten: float = 0,
        upsample: Upsample = "transposed",
        downsample: Downsample = "stride",
        initialization: Initialization = "normal",
        attention: bool = False,
    ) -> None:
        super().__init__(
            ResidualBlock,
            num_blocks,
            in_channels,
            out_channels,
            base_channels,
            output,
            smoothing,
            outlines,
            flatten,
            upsample,
            downsample,
            initialization,
            attention,
        )
        self.context = self._ends_context + 8 * num_blocks
