"""Adversarial losses on discriminator outputs."""

from torch import Tensor


def lsgan_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Half the sum of the mean squared distances of real logits to 1 and of fake logits to 0.

    The means run over all positions, so the two tensors may differ in shape. Computed in float32.

    Args:
        real_logits: discriminator outputs on real images, any shape.
        fake_logits: discriminator outputs on generated images, any shape; the caller detaches the images.

    Returns:
        A scalar in ``[0, inf)``, 0 when the discriminator is right everywhere.

    Source: Mao et al. 2017, Eq. 9 (a = 0, b = 1); the half as in Zhu et al. 2017, section 4.
    """
    return 0.5 * ((real_logits.float() - 1.0).square().mean() + fake_logits.float().square().mean())


def lsgan_generator_loss(fake_logits: Tensor) -> Tensor:
    """Mean squared distance of the logits of generated images to 1, in float32.

    Args:
        fake_logits: discriminator outputs on generated images, any shape.

    Returns:
        A scalar in ``[0, inf)``, 0 when the discriminator takes every position for real.

    Source: Mao et al. 2017, Eq. 9 (c = 1), without its factor 1/2, as Zhu et al. 2017.
    """
    return (fake_logits.float() - 1.0).square().mean()
