"""Convolutions to few channels by wide kernels, such as a generator's last.

PyTorch's kernels compute 16 output channels at a time, however few there are. Here the columns of the kernel become
output channels, ``K * width`` of them, whose results are then shifted and summed. For these, each row of the kernel is
a product of matrices: its weights times the picture's positions from that row on, as they lie, without a copy.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# Of the picture at a time, which stays in the caches while the rows of the kernel take turns.
_CHUNK_BYTES = 2**20


def _chunks(padded: Tensor, rows: int) -> Iterator[tuple[int, int, int]]:
    """Image, first and last + 1 row of outputs of each chunk."""
    step = max(_CHUNK_BYTES // (4 * padded.shape[1] * padded.shape[3]), 1)
    for image in range(len(padded)):
        for first in range(0, rows, step):
            yield image, first, min(first + step, rows)


def _seen(image: Tensor, first: int, last: int, height: int) -> list[Tensor]:
    """What each row of a kernel sees for a chunk of outputs: (C, H, W) -> ``height`` views (C, (last - first) * W)."""
    width, positions = image.shape[2], image.flatten(1)
    return [positions[:, (first + row) * width : (last + row) * width] for row in range(height)]


class _ByColumns(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, padded: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(padded, weight)
        channels, _, height, width = weight.shape
        kernels = weight.permute(2, 3, 0, 1).flatten(1, 2)  # (height, width * K, C)
        y = padded.new_zeros(len(padded), channels, padded.shape[2] - height + 1, padded.shape[3] - width + 1)
        for image, first, last in _chunks(padded, y.shape[2]):
            columns = padded.new_zeros(width, channels, last - first, padded.shape[3])
            products = columns.view(width * channels, -1)
            for kernel, positions in zip(kernels, _seen(padded[image], first, last, height), strict=True):
                products.addmm_(kernel, positions)
            for tap, column in enumerate(columns):
                y[image, :, first:last] += column[:, :, tap : tap + y.shape[3]]
        return y if bias is None else y.add_(bias.view(-1, 1, 1))

    @staticmethod
    @once_differentiable
    @torch.autocast("cpu", enabled=False)  # on if backward is called inside it: products would be bfloat16
    def backward(ctx: FunctionCtx, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        padded, weight = ctx.saved_tensors
        needs_padded, needs_weight, needs_bias = ctx.needs_input_grad
        channels, _, height, width = weight.shape
        kernels = weight.permute(2, 3, 0, 1).flatten(1, 2)
        grad_padded = torch.zeros_like(padded) if needs_padded else None
        grad_kernels = torch.zeros_like(kernels) if needs_weight else None
        for image, first, last in _chunks(padded, grad_y.shape[2]):
            columns = grad_y.new_zeros(width, channels, last - first, padded.shape[3])
            for tap, column in enumerate(columns):
                column[:, :, tap : tap + grad_y.shape[3]] = grad_y[image, :, first:last]
            products = columns.view(width * channels, -1)
            if needs_padded:
                for kernel, positions in zip(kernels, _seen(grad_padded[image], first, last, height), strict=True):
                    positions.addmm_(kernel.t(), products)
            if needs_weight:
                for kernel, positions in zip(grad_kernels, _seen(padded[image], first, last, height), strict=True):
                    kernel.addmm_(products, positions.t())
        grad_weight = None
        if needs_weight:
            grad_weight = grad_kernels.unflatten(1, (width, channels)).permute(2, 3, 0, 1).contiguous()
        return grad_padded, grad_weight, grad_y.sum(dim=(0, 2, 3)) if needs_bias else None


def convolve_by_columns(padded: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(N, C, H, W), padded already, -> (N, K, H', W'), for small K and a wide kernel. Differentiable once."""
    return _ByColumns.apply(padded.contiguous(), weight, bias)
