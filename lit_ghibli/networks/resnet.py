"""The ResNet generator of Johnson et al. that CycleGAN and its successors share."""

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn

from lit_ghibli.errors import UserError
from lit_ghibli.networks.convolutions import NarrowConv2d, StridedConv2d, TransposedConv2d, WinogradConv2d
from lit_ghibli.networks.initialization import init_weights
from lit_ghibli.networks.normalization import InstanceNorm
from lit_ghibli.networks.sizes import check_size


def _normalized(convolution: nn.Module, channels: int) -> nn.Sequential:
    # In place is legal: the norm's backward needs its input, not its output.
    return nn.Sequential(convolution, InstanceNorm(channels), nn.ReLU(inplace=True))


def _upsampling(in_channels: int, out_channels: int, upsample: str) -> nn.Module:
    if upsample == "transposed":
        return TransposedConv2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1)
    if upsample == "resize":
        convolution = WinogradConv2d(in_channels, out_channels, 3, padding=1, padding_mode="reflect")
        return nn.Sequential(nn.Upsample(scale_factor=2), convolution)
    raise ValueError(f"upsample is {upsample!r}; it must be 'transposed' or 'resize'")


def check_output(output: str, in_channels: int, out_channels: int) -> None:
    """Refuse the ``output`` of a generator that cannot be.

    Raises:
        UserError: it is neither ``tanh`` nor ``residual``, or ``residual`` for unequal numbers of channels.
    """
    if output not in ("tanh", "residual"):
        raise UserError(f"output is {output!r}; it must be 'tanh' or 'residual'")
    if output == "residual" and in_channels != out_channels:
        raise UserError(
            f"output='residual' adds to the photograph: in_channels ({in_channels}) and out_channels "
            f"({out_channels}) must be equal; make them so or use output='tanh'"
        )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with reflection padding and instance norm, added to their input.

    No ReLU follows the sum.

    Args:
        channels: of input and output.

    Source: Johnson et al. 2016, supplementary material; padding and norm of Zhu et al. 2017.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = (WinogradConv2d(channels, channels, 3, padding=1, padding_mode="reflect") for _ in range(2))
        self.branch = nn.Sequential(*_normalized(first, channels), second, InstanceNorm(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Transform ``(N, C, H, W)`` to the same shape."""
        return self.branch(features).add_(features)


class ResnetGenerator(nn.Module):
    """ResNet generator: c7s1-64, d128, d256, R256 x ``num_blocks``, u128, u64, c7s1-3, tanh.

    Weights start from N(0, 0.02). 11,378,179 parameters with nine blocks, 7,837,699 with six.

    Three sub-modules in a row: ``encoder`` (``stem``, ``down1``, ``down2``), ``bottleneck`` (the blocks)
    and ``decoder`` (``up1``, ``up2``, ``head``).

    Deviations, both options that the named recipes leave off:

    - ``output='residual'``: the head's bare sum with the photograph replaces tanh, and the head starts
      at zero: training starts from the untouched photograph. The sum is not clamped, since a clamp has
      no gradient where it holds; it can leave ``[-1, 1]``, and ``lit_ghibli.images`` clamps.
    - ``upsample='resize'``: nearest-neighbour enlargement and a 3x3 convolution replace the transposed
      convolutions, whose uneven overlap shows as a checkerboard (Odena et al. 2016).

    Args:
        in_channels: channels of the photograph.
        out_channels: channels of the picture.
        base_channels: channels at full resolution; the bottleneck has four times as many.
        num_blocks: residual blocks.
        output: ``tanh`` or ``residual``, the latter for equal numbers of channels only.
        upsample: ``transposed`` or ``resize``.

    Attributes:
        size_multiple: heights and widths must be multiples of it, in pixels.
        minimum_size: smallest height and width, in pixels.
        context: an output pixel depends on inputs at most this far away, in pixels, but for the statistics
            of instance norm.

    Source: Zhu et al. 2017, appendix 7.2; Johnson et al. 2016.
    """

    size_multiple = 4
    minimum_size = 8

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        base_channels: int = 64,
        num_blocks: int = 9,
        output: Literal["tanh", "residual"] = "tanh",
        upsample: Literal["transposed", "resize"] = "transposed",
    ) -> None:
        super().__init__()
        check_output(output, in_channels, out_channels)
        full, half, quarter = base_channels, 2 * base_channels, 4 * base_channels
        encoder = {
            "stem": _normalized(nn.Conv2d(in_channels, full, 7, padding=3, padding_mode="reflect"), full),
            "down1": _normalized(StridedConv2d(full, half, 3, stride=2, padding=1), half),
            "down2": _normalized(StridedConv2d(half, quarter, 3, stride=2, padding=1), quarter),
        }
        decoder = {
            "up1": _normalized(_upsampling(quarter, half, upsample), half),
            "up2": _normalized(_upsampling(half, full, upsample), full),
            "head": NarrowConv2d(full, out_channels, 7, padding=3, padding_mode="reflect"),
        }
        self.output = output
        self.context = 16 + 8 * num_blocks
        self.encoder = nn.Sequential(OrderedDict(encoder))
        self.bottleneck = nn.Sequential(*(ResidualBlock(quarter) for _ in range(num_blocks)))
        self.decoder = nn.Sequential(OrderedDict(decoder))
        init_weights(self)
        if output == "residual":
            nn.init.zeros_(self.decoder.head.weight)

    def forward(self, photos: Tensor) -> Tensor:
        """Translate photographs.

        Args:
            photos: ``(N, in_channels, H, W)`` in ``[-1, 1]``; H and W multiples of 4, at least 8.

        Returns:
            Pictures ``(N, out_channels, H, W)``, in ``[-1, 1]`` for tanh.

        Raises:
            UserError: on a height or width that is too small or no multiple of ``size_multiple``.
        """
        self.check_size(*photos.shape[-2:])
        head = self.decoder(self.bottleneck(self.encoder(photos)))
        return photos + head if self.output == "residual" else head.tanh()

    def check_size(self, height: int, width: int) -> None:
        """Refuse sizes that are no multiples of ``size_multiple``, or smaller than ``minimum_size``.

        Raises:
            UserError: on such a size.
        """
        check_size("ResnetGenerator", (height, width), self.size_multiple, self.minimum_size)
