"""Convolutions as one matrix product, where PyTorch's CPU kernels waste most of their work."""

import torch.nn.functional as F
from torch import Tensor


def convolve_as_product(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int]
) -> Tensor:
    """(N, C, H, W) -> (N, K, H', W'): the weights times the windows of all images, as columns of one matrix."""
    windows = F.unfold(x, weight.shape[2:], padding=padding, stride=stride)  # (N, C * taps, H' * W')
    products = weight.flatten(1) @ windows.transpose(0, 1).flatten(1)
    y = products.unflatten(1, (len(x), -1)).transpose(0, 1).contiguous()
    height = (x.shape[2] + 2 * padding[0] - weight.shape[2]) // stride[0] + 1
    y = y.unflatten(2, (height, -1))
    return y if bias is None else y + bias.view(-1, 1, 1)


def convolve_transposed_as_product(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int], output_padding: list[int]
) -> Tensor:
    """(N, C, H, W) -> (N, K, H', W'): each position's product with all weights, then overlaps added."""
    windows = weight.flatten(1).t() @ x.transpose(0, 1).flatten(1)  # (K * taps, N * H * W)
    windows = windows.unflatten(1, (len(x), -1)).transpose(0, 1)
    size = transposed_size(x, weight, stride, padding, output_padding)
    y = F.fold(windows, size, weight.shape[2:], padding=padding, stride=stride)
    return y if bias is None else y + bias.view(-1, 1, 1)


def transposed_size(
    x: Tensor, weight: Tensor, stride: list[int], padding: list[int], output_padding: list[int]
) -> list[int]:
    """Height and width of what a transposed convolution makes of (N, C, H, W)."""
    lengths = zip(x.shape[2:], stride, padding, weight.shape[2:], output_padding, strict=True)
    return [(length - 1) * step - 2 * pad + taps + extra for length, step, pad, taps, extra in lengths]
