"""Convolutions that take the quickest route on the CPU: drop-in for PyTorch's, same parameters and results.

PyTorch's CPU kernels are near the processor's peak for most shapes; the layers here are for those
where they are not (measured: experiments/throughput). Each takes its own route for eager float32 on
the CPU, and PyTorch's everywhere else: on a GPU, under autocast, compiled, traced or exported.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from lit_ghibli.networks.kernels.winograd import winograd_conv3x3

# Below these the transforms of Winograd cost more than its products save.
_MINIMUM_WINOGRAD_CHANNELS = 128
_MINIMUM_WINOGRAD_POSITIONS = 32 * 32

# Positions of a batch from which channels_last pays: below, to reorder the weights costs more than it saves.
_MINIMUM_CHANNELS_LAST_POSITIONS = 32 * 32

# Up to so many positions, this many weights are read for so few products that PyTorch's kernels, which reorder
# them first, take two to four times as long as one matrix product that reads them as they lie.
_MAXIMUM_PRODUCT_POSITIONS = 16 * 16
_MINIMUM_PRODUCT_WEIGHTS = 2**20
# PyTorch's transposed convolution computes 16 channels at a time, however few there are.
_MAXIMUM_NARROW_CHANNELS = 4


def _is_eager_cpu_float32(images: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and images.device.type == "cpu"
        and images.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and images.dim() == 4
    )


class WinogradConv2d(nn.Conv2d):
    """``nn.Conv2d`` by Winograd's algorithm for 3x3 kernels at stride 1, 128 channels and 32x32 pixels up."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if _is_eager_cpu_float32(input) and self._winograd_pays(input):
            return winograd_conv3x3(input, weight, bias, self.padding[0], self.padding_mode)
        return super()._conv_forward(input, weight, bias)

    def _winograd_pays(self, input: Tensor) -> bool:
        return (
            (self.kernel_size, self.stride, self.dilation, self.groups) == ((3, 3), (1, 1), (1, 1), 1)
            and self.padding in ((0, 0), (1, 1))
            and self.padding_mode in ("zeros", "reflect")
            and min(self.in_channels, self.out_channels) >= _MINIMUM_WINOGRAD_CHANNELS
            and input.shape[2] * input.shape[3] >= _MINIMUM_WINOGRAD_POSITIONS
        )


class NarrowConv2d(nn.Conv2d):
    """``nn.Conv2d`` for few output channels and a wide kernel, such as the last layer of a generator.

    The CPU kernels compute 16 output channels at a time, however few there are. Here the columns of
    the kernel become output channels, ``out_channels * width`` of them, whose results are then
    shifted and summed.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        plain = (self.stride, self.dilation, self.groups) == ((1, 1), (1, 1), 1)
        if not (plain and _is_eager_cpu_float32(input)):
            return super()._conv_forward(input, weight, bias)
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        padded = F.pad(input, self._reversed_padding_repeated_twice, mode=mode)
        channels, _, _, taps = weight.shape
        columns = F.conv2d(padded, weight.permute(3, 0, 1, 2).flatten(0, 1).unsqueeze(-1))
        columns = columns.unflatten(1, (taps, channels))
        width = columns.shape[-1] - taps + 1
        shifted = sum(columns[:, tap, :, :, tap : tap + width] for tap in range(taps))
        return shifted if bias is None else shifted + bias.view(-1, 1, 1)


def _from_channels_last(images: Tensor) -> Tensor:
    """Copy (N, C, H, W) from channels_last to contiguous memory.

    As a transposition of matrices, for which PyTorch has a kernel that respects the caches; its
    general copy takes six times as long.
    """
    matrices = images.permute(0, 2, 3, 1).flatten(1, 2)
    result = images.new_empty(images.shape)
    for matrix, channels in zip(matrices, result.flatten(2), strict=True):
        channels.copy_(matrix.t())
    return result


def _product_pays(weight: Tensor, positions: int) -> bool:
    return positions <= _MAXIMUM_PRODUCT_POSITIONS and weight.numel() >= _MINIMUM_PRODUCT_WEIGHTS


def _convolve_as_product(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int]
) -> Tensor:
    """(N, C, H, W) -> (N, K, H', W'): the weights times the windows of all images, as columns of one matrix."""
    windows = F.unfold(x, weight.shape[2:], padding=padding, stride=stride)  # (N, C * taps, H' * W')
    products = weight.flatten(1) @ windows.transpose(0, 1).flatten(1)
    y = products.unflatten(1, (len(x), -1)).transpose(0, 1).contiguous()
    height = (x.shape[2] + 2 * padding[0] - weight.shape[2]) // stride[0] + 1
    y = y.unflatten(2, (height, -1))
    return y if bias is None else y + bias.view(-1, 1, 1)


def _convolve_transposed_as_product(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int], output_padding: list[int]
) -> Tensor:
    """(N, C, H, W) -> (N, K, H', W'): each position's product with all weights, then overlaps added."""
    windows = weight.flatten(1).t() @ x.transpose(0, 1).flatten(1)  # (K * taps, N * H * W)
    windows = windows.unflatten(1, (len(x), -1)).transpose(0, 1)
    lengths = zip(x.shape[2:], stride, padding, weight.shape[2:], output_padding, strict=True)
    size = [(length - 1) * step - 2 * pad + taps + extra for length, step, pad, taps, extra in lengths]
    y = F.fold(windows, size, weight.shape[2:], padding=padding, stride=stride)
    return y if bias is None else y + bias.view(-1, 1, 1)


class _TransposedConvolution(torch.autograd.Function):
    """The forward pass in channels_last, for which the CPU kernel is two to three times as quick."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple[list[int], ...]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        stride, padding, output_padding = geometry
        weight = weight.contiguous(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
        return _from_channels_last(F.conv_transpose2d(x, weight, bias, stride, padding, output_padding))

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, output_padding = ctx.geometry
        gradients = torch.ops.aten.convolution_backward(
            grad_y.contiguous(), x, weight, [weight.shape[1]], stride, padding, [1, 1], True, output_padding,
            1, ctx.needs_input_grad[:3],
        )  # fmt: skip
        return *gradients, None


class TransposedConv2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` as a product for few positions or channels, else in channels_last in its forward pass."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Convolve as ``nn.ConvTranspose2d`` does."""
        plain = output_size is None and (self.dilation, self.groups) == ((1, 1), 1)
        if not (plain and _is_eager_cpu_float32(input)):
            return super().forward(input, output_size)
        geometry = (list(self.stride), list(self.padding), list(self.output_padding))
        positions = input.numel() // self.in_channels
        if self.out_channels <= _MAXIMUM_NARROW_CHANNELS or _product_pays(self.weight, positions):
            return _convolve_transposed_as_product(input, self.weight, self.bias, *geometry)
        if positions >= _MINIMUM_CHANNELS_LAST_POSITIONS:
            return _TransposedConvolution.apply(input, self.weight, self.bias, geometry)
        return super().forward(input)


class _StridedConvolution(torch.autograd.Function):
    """The gradient to the input in channels_last: it is a transposed convolution, quicker there."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple[list[int], ...]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return F.conv2d(x, weight, bias, *geometry)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        needs_x, *needs_parameters = ctx.needs_input_grad[:3]

        def gradients(memory_format: torch.memory_format, mask: list[bool]) -> tuple[Tensor | None, ...]:
            tensors = [tensor.contiguous(memory_format=memory_format) for tensor in (grad_y, *ctx.saved_tensors)]
            return torch.ops.aten.convolution_backward(
                *tensors, [grad_y.shape[1]], *ctx.geometry, [1, 1], False, [0, 0], 1, mask
            )

        _, grad_weight, grad_bias = gradients(torch.contiguous_format, [False, *needs_parameters])
        if not needs_x:
            return None, grad_weight, grad_bias, None
        grad_x = gradients(torch.channels_last, [True, False, False])[0]
        return _from_channels_last(grad_x), grad_weight, grad_bias, None


class StridedConv2d(nn.Conv2d):
    """``nn.Conv2d`` of stride 2 or more: a product for few positions; for many the gradient in channels_last."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        plain = (self.dilation, self.groups, self.padding_mode) == ((1, 1), 1, "zeros")
        if not (plain and not isinstance(self.padding, str) and _is_eager_cpu_float32(input)):
            return super()._conv_forward(input, weight, bias)
        geometry = (list(self.stride), list(self.padding))
        positions = input.numel() // (self.in_channels * self.stride[0] * self.stride[1])
        if _product_pays(weight, positions):
            return _convolve_as_product(input, weight, bias, *geometry)
        if positions >= _MINIMUM_CHANNELS_LAST_POSITIONS:
            return _StridedConvolution.apply(input, weight, bias, geometry)
        return super()._conv_forward(input, weight, bias)
