"""Likeness of pictures as a classification network sees them."""

import torch
from torch import Tensor
from torch.nn import functional as F


def content_loss(output_features: Tensor, photo_features: Tensor) -> Tensor:
    """Mean squared difference of the features of an output and of its photograph.

    In float32 at least; no gradient reaches the photograph. The features are those of a classification network,
    VGG-19's conv4_4 in Scenimefy and NijiGAN.

    Args:
        output_features: ``(N, C, h, w)``.
        photo_features: ``(N, C, h, w)``; detached here.

    Returns:
        A scalar in ``[0, inf)``, the mean over images, channels and positions.

    Raises:
        ValueError: if the shapes differ.

    Source: Johnson et al. 2016, Eq. 2, feature reconstruction; Jiang et al. 2023.
    """
    if output_features.shape != photo_features.shape:
        raise ValueError(
            f"features of the output {tuple(output_features.shape)} but of the photograph "
            f"{tuple(photo_features.shape)}; both must have one shape (N, C, h, w)"
        )
    output, photo = (
        features.to(torch.promote_types(features.dtype, torch.float32))
        for features in (output_features, photo_features.detach())
    )
    return F.mse_loss(output, photo)
