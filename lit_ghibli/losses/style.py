"""Style of pictures as the correlations of their features."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def gram_matrix(features: Tensor, normalize: bool = False) -> Tensor:
    """Inner products of the feature maps of each image with one another: F F^T, F having one row per channel.

    In float32 at least, also under autocast: the sums of large images leave float16.

    Args:
        features: ``(N, C, H, W)``, in any memory format.
        normalize: divide by ``C * H * W``, so that sizes of images and layers compare.

    Returns:
        Symmetric matrices ``(N, C, C)``, positive semi-definite.

    Source: Gatys et al. 2016, Eq. 3; the divisor is that of Johnson et al. 2016, Eq. 3.
    """
    with torch.autocast(features.device.type, enabled=False):
        rows = features.to(torch.promote_types(features.dtype, torch.float32)).flatten(2)
        grams = rows @ rows.mT
    return grams / rows[0].numel() if normalize else grams


def style_loss(grams: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Mean squared difference of Gram matrices to their targets, layer by layer.

    Deviation: Gatys et al. 2016, Eq. 4, divide the sum of squares by ``4 * C**2 * (H * W)**2``; the mean here divides
    by ``C**2`` (and N). Weights, and the sum or mean over layers, are the method's.

    Args:
        grams: for each layer ``(N, C, C)``, from :func:`gram_matrix`.
        targets: for the same layers ``(N, C, C)``, or ``(1, C, C)`` for one style of all images; the caller
            computes them without gradient, once.

    Returns:
        For each layer, in the order of ``grams``, a scalar in ``[0, inf)``: the mean over images and entries.

    Raises:
        ValueError: if the layers or the shapes of grams and targets differ.
    """
    if grams.keys() != targets.keys():
        raise ValueError(f"grams of the layers {sorted(grams)} but targets of {sorted(targets)}; they must be the same")
    losses = {}
    for layer, gram in grams.items():
        target = targets[layer]
        if target.shape not in (gram.shape, (1, *gram.shape[1:])):
            raise ValueError(f"{layer}: grams {tuple(gram.shape)} but targets {tuple(target.shape)}")
        losses[layer] = F.mse_loss(gram, target.expand_as(gram))
    return losses
