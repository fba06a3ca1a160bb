"""Convolutions that take the quickest route on the CPU: drop-in for PyTorch's, same parameters and results.

PyTorch's CPU kernels are near the processor's peak for most shapes; for those where they are not (measured:
benchmarks/throughput), the layers here choose one of ``lit_ghibli.networks.kernels``. They do so for eager float32 on
the CPU, and take PyTorch's route everywhere else: on a GPU, under autocast, compiled, traced or exported.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_ghibli.networks.kernels.channels_last import convolve_strided, convolve_transposed
from lit_ghibli.networks.kernels.columns import convolve_by_columns
from lit_ghibli.networks.kernels.enlarging import convolve_enlarged
from lit_ghibli.networks.kernels.products import convolve_as_product, convolve_transposed_as_product
from lit_ghibli.networks.kernels.winograd import winograd_conv3x3

# Below these the transforms of Winograd cost more than its products save. They are of both sides, the products of one
# side times the other: on one side half as many channels will do, in large pictures.
_MINIMUM_WINOGRAD_CHANNELS = 128
_MINIMUM_WINOGRAD_POSITIONS = 32 * 32
_MINIMUM_NARROW_WINOGRAD_CHANNELS = 64
_MINIMUM_NARROW_WINOGRAD_POSITIONS = 128 * 128

# Positions of a batch from which channels_last pays: below, to reorder the weights costs more than it saves.
_MINIMUM_CHANNELS_LAST_POSITIONS = 32 * 32

# Up to so many positions, this many weights are read for so few products that PyTorch's kernels, which reorder
# them first, take two to four times as long as one matrix product that reads them as they lie.
_MAXIMUM_PRODUCT_POSITIONS = 16 * 16
_MINIMUM_PRODUCT_WEIGHTS = 2**20
# PyTorch's kernels compute 16 channels at a time, however few there are.
_MAXIMUM_NARROW_CHANNELS = 4


def is_eager_cpu_float32(images: Tensor) -> bool:
    """Whether a batch of images takes the routes of this module."""
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and images.device.type == "cpu"
        and images.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and images.dim() == 4
    )


def _product_pays(weight: Tensor, positions: int) -> bool:
    return positions <= _MAXIMUM_PRODUCT_POSITIONS and weight.numel() >= _MINIMUM_PRODUCT_WEIGHTS


class Conv2d(nn.Conv2d):
    """``nn.Conv2d`` by the quickest route.

    - Stride 1: Winograd's algorithm for 3x3 kernels, 128 channels and 32x32 pixels up, or between 64 and 128 channels
      from 128x128 pixels; by columns for wide kernels to at most 4 channels, fewer than they come from, such as the
      last layer of a generator.
    - Stride 2 or more: a product for few positions; for many the gradient in channels_last.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if (self.dilation, self.groups) != ((1, 1), 1) or not is_eager_cpu_float32(input):
            return super()._conv_forward(input, weight, bias)
        if self.stride == (1, 1):
            if self._winograd_pays(input):
                return winograd_conv3x3(input, weight, bias, self.padding[0], self.padding_mode)
            if self.kernel_size[1] > 3 and self.out_channels <= min(_MAXIMUM_NARROW_CHANNELS, self.in_channels - 1):
                mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
                padded = F.pad(input, self._reversed_padding_repeated_twice, mode=mode)
                return convolve_by_columns(padded, weight, bias)
        elif self.padding_mode == "zeros" and not isinstance(self.padding, str):
            geometry = (list(self.stride), list(self.padding))
            positions = input.numel() // (self.in_channels * self.stride[0] * self.stride[1])
            if _product_pays(weight, positions):
                return convolve_as_product(input, weight, bias, *geometry)
            if positions >= _MINIMUM_CHANNELS_LAST_POSITIONS:
                return convolve_strided(input, weight, bias, *geometry)
        return super()._conv_forward(input, weight, bias)

    def _winograd_pays(self, input: Tensor) -> bool:
        fewer, more = sorted((self.in_channels, self.out_channels))
        wide = fewer >= _MINIMUM_WINOGRAD_CHANNELS
        positions = _MINIMUM_WINOGRAD_POSITIONS if wide else _MINIMUM_NARROW_WINOGRAD_POSITIONS
        return (
            self.kernel_size == (3, 3)
            and self.padding in ((0, 0), (1, 1))
            and self.padding_mode in ("zeros", "reflect")
            and fewer >= _MINIMUM_NARROW_WINOGRAD_CHANNELS
            and more >= _MINIMUM_WINOGRAD_CHANNELS
            and input.shape[2] * input.shape[3] >= positions
        )


class ConvTranspose2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` as a product for few positions or channels, else in channels_last in its forward pass."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Convolve as ``nn.ConvTranspose2d`` does."""
        plain = output_size is None and (self.dilation, self.groups) == ((1, 1), 1)
        if not (plain and is_eager_cpu_float32(input)):
            return super().forward(input, output_size)
        geometry = (list(self.stride), list(self.padding), list(self.output_padding))
        positions = input.numel() // self.in_channels
        if self.out_channels <= _MAXIMUM_NARROW_CHANNELS or _product_pays(self.weight, positions):
            return convolve_transposed_as_product(input, self.weight, self.bias, *geometry)
        if positions >= _MINIMUM_CHANNELS_LAST_POSITIONS:
            return convolve_transposed(input, self.weight, self.bias, *geometry)
        return super().forward(input)


class EnlargingConv2d(nn.Conv2d):
    """Nearest-neighbour enlargement to twice the size, reflection padding, a 3x3 convolution."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 3, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """Enlarge ``(N, C, H, W)``."""
        return convolve_enlarged(input, self.weight, self.bias)
