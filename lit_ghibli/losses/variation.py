"""Total variation: a penalty on noise."""

import torch
from torch import Tensor


def total_variation(images: Tensor) -> Tensor:
    """Mean squared difference of vertical neighbours plus that of horizontal ones.

    The squared form, usual in style transfer: differentiable everywhere, at the price of softer edges than with
    absolute differences. The means run over all pairs of neighbours, so that a weight serves every image size.
    0 for a constant image; 8 for a checkerboard of -1 and 1. In float32 at least.

    Args:
        images: ``(N, C, H, W)`` with H and W at least 2, in ``[-1, 1]``.

    Returns:
        A scalar in ``[0, inf)``, at most 8 for images in range.

    Source: Mahendran and Vedaldi 2015, the total-variation regulariser with beta = 2, with means in place of sums.
    """
    images = images.to(torch.promote_types(images.dtype, torch.float32))
    vertical = images[..., 1:, :] - images[..., :-1, :]
    horizontal = images[..., :, 1:] - images[..., :, :-1]
    return vertical.square().mean() + horizontal.square().mean()
