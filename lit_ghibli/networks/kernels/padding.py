"""Reflection padding that keeps nothing for its backward pass, where PyTorch's keeps its input to know the size."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class _ReflectionPad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
        ctx.shape, ctx.padding = features.shape, padding
        return F.pad(features, padding, mode="reflect")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        sized = gradient.new_empty(ctx.shape)
        return torch.ops.aten.reflection_pad2d_backward(gradient, sized, ctx.padding), None


def reflection_pad(features: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """Pad ``(N, C, H, W)`` by reflection.

    Args:
        features: What is padded; it may be changed in place afterwards.
        padding: Columns to the left and right, rows at the top and bottom.
    """
    learning = torch.is_grad_enabled() and features.requires_grad
    if not learning or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return F.pad(features, padding, mode="reflect")
    return _ReflectionPad.apply(features, padding)
