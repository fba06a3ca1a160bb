"""The smoothed structure tensor: which way the forms of a picture run, and how plainly.

Source: Brox, Boomgaard, Lauze, Weijer, Weickert et al., Adaptive structure tensors and their applications (2006);
as used by Kyprianidis, Kang and Doellner, Image and video abstraction by anisotropic Kuwahara filtering (2009), sec. 3.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lit_ghibli.painter.filters import blur, derivatives


class Flow(NamedTuple):
    """Where the forms run.

    `along` (B, 2, H, W): unit vector (x, y) of the smallest change. `anisotropy` (B, 1, H, W): 0 where no direction is
    preferred, 1 on a straight edge. `energy` (B, 1, H, W): the larger eigenvalue, a squared derivative.
    """

    along: Tensor
    anisotropy: Tensor
    energy: Tensor


def flow(picture: Tensor, sigma: float) -> Flow:
    """The flow of a picture (B, C, H, W); the tensor is summed over its channels and smoothed with `sigma` pixels."""
    dx, dy = derivatives(picture)
    tensor = torch.cat([(d1 * d2).sum(1, keepdim=True) for d1, d2 in ((dx, dx), (dx, dy), (dy, dy))], dim=1)
    xx, xy, yy = blur(tensor, sigma).split(1, dim=1)
    root = torch.sqrt((xx - yy) ** 2 + 4 * xy**2)
    trace = xx + yy
    # Half the angle of (xx - yy, 2 xy) is the direction of largest change; a quarter turn from it, that of least.
    angle = 0.5 * torch.atan2(2 * xy, xx - yy)
    along = torch.cat([-torch.sin(angle), torch.cos(angle)], dim=1)
    return Flow(along, root / trace.clamp_min(1e-12), 0.5 * (trace + root))


def unrest(forms: Flow, calm: float, unit: float = 1.0) -> Tensor:
    """From nearly 0, where an area is calm as a sky is, to 1 in contours and texture, (B, 1, H, W).

    Args:
        forms: The flow of the picture.
        calm: Change per pixel at which it is a quarter.
        unit: What lengths are multiplied by.
    """
    change = blur(forms.energy.clamp_min(0), 6 * unit).clamp_min(0).sqrt() * unit
    # A hundredth at least: as a price of the L0 smoothing, which needs one for its first step to be small enough.
    return ((change / (change + calm)) ** 2).clamp_min(0.01)
