"""Adversarial losses on discriminator outputs."""

import torch
from torch import Tensor
from torch.nn import functional as F


def lsgan_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Half the sum of the mean squared distances of real logits to 1 and of fake logits to 0.

    The means run over all positions, so the two tensors may differ in shape. Computed in float32 under autocast.

    Args:
        real_logits: discriminator outputs on real images, any shape.
        fake_logits: discriminator outputs on generated images, any shape; the caller detaches the images.

    Returns:
        A scalar in ``[0, inf)``, 0 when the discriminator is right everywhere.

    Source: Mao et al. 2017, Eq. 9 (a = 0, b = 1); the half as in Zhu et al. 2017, section 4.
    """
    real, fake = torch.ones_like(real_logits), torch.zeros_like(fake_logits)
    return 0.5 * (F.mse_loss(real_logits, real) + F.mse_loss(fake_logits, fake))


def lsgan_generator_loss(fake_logits: Tensor) -> Tensor:
    """Mean squared distance of the logits of generated images to 1, in float32 under autocast.

    Args:
        fake_logits: discriminator outputs on generated images, any shape.

    Returns:
        A scalar in ``[0, inf)``, 0 when the discriminator takes every position for real.

    Source: Mao et al. 2017, Eq. 9 (c = 1), without its factor 1/2, as Zhu et al. 2017.
    """
    return F.mse_loss(fake_logits, torch.ones_like(fake_logits))


def bce_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Half the sum of the binary cross-entropies of real logits with 1 and of fake logits with 0.

    The means run over all positions, so the two tensors may differ in shape. Computed in float32 under autocast.

    Args:
        real_logits: discriminator outputs on real images, any shape.
        fake_logits: discriminator outputs on generated images, any shape; the caller detaches the images.

    Returns:
        A scalar in ``[0, inf)``; log 2 where the discriminator cannot tell.

    Source: Goodfellow et al. 2014, Eq. 1; the half as in Isola et al. 2017, section 3.3.
    """
    real, fake = torch.ones_like(real_logits), torch.zeros_like(fake_logits)
    cross_entropy = F.binary_cross_entropy_with_logits
    return 0.5 * (cross_entropy(real_logits, real) + cross_entropy(fake_logits, fake))


def bce_generator_loss(fake_logits: Tensor) -> Tensor:
    """Binary cross-entropy of the logits of generated images with 1: the loss that does not saturate.

    Args:
        fake_logits: discriminator outputs on generated images, any shape.

    Returns:
        A scalar in ``[0, inf)``; log 2 where the discriminator cannot tell.

    Source: Goodfellow et al. 2014, section 3; Isola et al. 2017, section 3.3. In float32 under autocast.
    """
    return F.binary_cross_entropy_with_logits(fake_logits, torch.ones_like(fake_logits))


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Half the sum of how far real logits are below 1 and fake logits above -1, on the mean.

    The means run over all positions, so the two tensors may differ in shape. In float32 at least, under autocast, too.

    Args:
        real_logits: discriminator outputs on real images, any shape.
        fake_logits: discriminator outputs on generated images, any shape; the caller detaches the images.

    Returns:
        A scalar in ``[0, inf)``, 0 when the discriminator is right everywhere by a margin of 1.

    Source: Lim and Ye 2017, Geometric GAN, section 3; the half as in Esser et al. 2021.
    """
    real, fake = (_at_least_float32(logits) for logits in (real_logits, fake_logits))
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def hinge_generator_loss(fake_logits: Tensor) -> Tensor:
    """Minus the mean logit of generated images, in float32 at least, under autocast, too.

    Args:
        fake_logits: discriminator outputs on generated images, any shape.

    Returns:
        A scalar, the lower the more real the images look.

    Source: Lim and Ye 2017, Geometric GAN, section 3.
    """
    return -_at_least_float32(fake_logits).mean()


def r1_penalty(real_logits: Tensor, real_images: Tensor) -> Tensor:
    """Half the mean squared norm of the gradient that a discriminator has at real images.

    Where a discriminator judges patches, its judgement of an image is their mean, as in the other losses here. The
    penalty has a graph for the discriminator's weights.

    Args:
        real_logits: discriminator outputs on ``real_images``, of any shape ``(N, ...)``.
        real_images: ``(N, ...)``, which require a gradient.

    Returns:
        A scalar in ``[0, inf)``.

    Source: Mescheder et al. 2018, Eq. 9.
    """
    judgements = real_logits.flatten(1).mean(dim=1)
    (gradient,) = torch.autograd.grad(judgements.sum(), real_images, create_graph=True)
    return 0.5 * _at_least_float32(gradient).square().flatten(1).sum(dim=1).mean()


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
