"""A penalty on the curvature of an ODE block's path: what it makes small, a single Euler step gets right."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_ghibli.errors import UserError


def straightness(gaps: Sequence[Tensor]) -> Tensor:
    """Mean over blocks of the mean squared gap, the part of a block's way that one Euler step from its start misses.

    0 where every path is straight and passed at constant speed: then one evaluation of the vector field per block
    is as good as many.

    Deviation: Finlay et al. penalise the kinetic energy, the mean of ``|f(h(t))|^2`` over the path. Here f ends in an
    instance norm without affine parameters, so that its mean square is 1 whatever the weights are: the kinetic
    energy is a constant, and its gradient nothing. The distance from the straight path is what it would make small.

    Args:
        gaps: ``h(1) - h(0) - f(h(0))`` of each ODE block, ``(N, C, H, W)``.

    Returns:
        A scalar in ``[0, inf)``, float32 also under autocast.

    Raises:
        UserError: there are no gaps.

    Source: after Finlay et al. 2020, "How to train your neural ODE".
    """
    if not gaps:
        raise UserError(
            "straightness has no gaps to measure: this generator has no ODE blocks; choose method/bottleneck=ode, "
            "or set the weight of straightness to 0"
        )
    return torch.stack([gap.float().square().mean() for gap in gaps]).mean()
