"""What a codebook owes to the features that it stands for, and they to it."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

BetaWeighs = Literal["commitment", "codebook"]


def codebook_loss(features: Tensor, nearest: Tensor, beta: float, beta_weighs: BetaWeighs = "commitment") -> Tensor:
    """Mean squared distance of features and their codes, once moving the codes and once the features.

    Args:
        features: ``(N, D, h, w)`` before quantisation.
        nearest: ``(N, D, h, w)``, the vectors of the nearest codes.
        beta: weight of one of the two terms; the other one has 1.
        beta_weighs: ``commitment``, which moves features to codes, as in the paper; or ``codebook``, which moves codes
            to features, as in the released code of VQ-I2I, whose features therefore hold on to their codes four
            times as hard as planned for beta = 0.25.

    Returns:
        A scalar in ``[0, inf)``, in float32 at least.

    Raises:
        ValueError: on another term.

    Source: van den Oord et al. 2017, Eq. 3.
    """
    if beta_weighs not in ("commitment", "codebook"):
        raise ValueError(f"method.beta_weighs is {beta_weighs!r}; it must be 'commitment' or 'codebook'")
    dtype = torch.promote_types(features.dtype, torch.float32)
    features, nearest = features.to(dtype), nearest.to(dtype)
    codebook, commitment = F.mse_loss(nearest, features.detach()), F.mse_loss(features, nearest.detach())
    if beta_weighs == "codebook":
        return beta * codebook + commitment
    return codebook + beta * commitment
