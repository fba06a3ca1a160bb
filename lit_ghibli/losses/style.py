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


def guidance_channels(regions: Tensor, size: tuple[int, int]) -> Tensor:
    """How far each position of a feature map belongs to a region, scaled so that squares sum to the positions.

    With T_r of shape ``(H, W)``, F_r = T_r F and G_r = F_r F_r^T are the features and the Gram matrix of region r:
    ``gram_matrix(guides * features)``. A region that is the whole picture has T = 1, and its Gram matrix.

    Args:
        regions: ``(R, 1, H0, W0)`` in ``[0, 1]``, averaged over what each position stands for.
        size: H and W of the feature map.

    Returns:
        ``(R, 1, H, W)``, not negative.

    Source: Gatys et al. 2017, "Controlling Perceptual Factors in Neural Style Transfer", Eqs. 5 to 7, whose squares
    sum to 1.
    """
    guides = F.adaptive_avg_pool2d(regions, size)
    return guides / guides.square().mean(dim=(-2, -1), keepdim=True).sqrt()


def style_loss(
    grams: Mapping[str, Tensor], targets: Mapping[str, Tensor], shares: Tensor | None = None
) -> dict[str, Tensor]:
    """Mean squared difference of Gram matrices to their targets, layer by layer.

    Deviation: Gatys et al. 2016, Eq. 4, divide the sum of squares by ``4 * C**2 * (H * W)**2``; the mean here divides
    by ``C**2`` (and N). Weights, and the sum or mean over layers, are the method's.

    Args:
        grams: for each layer ``(N, C, C)``, from :func:`gram_matrix`.
        targets: for the same layers ``(N, C, C)``, or ``(1, C, C)`` for one style of all images; the caller
            computes them without gradient, once.
        shares: ``(N,)``, how much each image, or region, counts, summing to 1; None: all alike.

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
        if shares is None:
            losses[layer] = F.mse_loss(gram, target.expand_as(gram))
        else:
            losses[layer] = (gram - target).square().mean(dim=(1, 2)) @ shares
    return losses
