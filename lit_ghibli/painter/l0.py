"""L0 gradient minimisation: as few changes of color as possible, so that fills become flat and edges stay sharp.

Source: Xu, Lu, Xu and Jia, Image smoothing via L0 gradient minimization (2011), algorithm 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def l0_smooth(
    picture: Tensor,
    weight: float | Tensor,
    growth: float = 2.0,
    beta_max: float = 1e5,
    beta_min: float | None = None,
) -> Tensor:
    """The smoothed picture; its borders are joined to the opposite ones, as the Fourier transform has it.

    Args:
        picture: (B, C, H, W) in [0, 1].
        weight: lambda, the price of one change of color against squared differences; a map (B, 1, H, W) or a number.
        growth: kappa, by which beta grows each time.
        beta_max: where beta ends.
        beta_min: where it begins; None: at twice the largest weight.
    """
    height, width = picture.shape[-2:]
    # A transform of a prime size takes fifty times as long as one of the next product of small primes.
    picture = F.pad(picture, (0, _fast_length(width) - width, 0, _fast_length(height) - height), mode="replicate")
    if torch.is_tensor(weight):
        weight = F.pad(weight, (0, picture.shape[-1] - width, 0, picture.shape[-2] - height), mode="replicate")
    rows, columns = picture.shape[-2:]
    fy = torch.arange(rows, dtype=picture.dtype, device=picture.device) * (2 * torch.pi / rows)
    fx = torch.arange(columns // 2 + 1, dtype=picture.dtype, device=picture.device) * (2 * torch.pi / columns)
    laplacian = (2 - 2 * torch.cos(fy))[:, None] + (2 - 2 * torch.cos(fx))[None]
    spectrum = torch.fft.rfft2(picture)
    smooth = picture
    beta = beta_min or 2 * float(torch.as_tensor(weight).max())
    while beta < beta_max:
        dx = smooth.roll(-1, -1) - smooth
        dy = smooth.roll(-1, -2) - smooth
        kept = ((dx**2 + dy**2).sum(1, keepdim=True) >= weight / beta).to(picture.dtype)
        dx, dy = dx * kept, dy * kept
        divergence = dx.roll(1, -1) - dx + dy.roll(1, -2) - dy
        smooth = torch.fft.irfft2(
            (spectrum + beta * torch.fft.rfft2(divergence)) / (1 + beta * laplacian), s=(rows, columns)
        )
        beta *= growth
    return smooth[..., :height, :width]


def _fast_length(length: int) -> int:
    """The next product of 2, 3 and 5."""
    rest = length
    for prime in (2, 3, 5):
        while rest % prime == 0:
            rest //= prime
    return length if rest == 1 else _fast_length(length + 1)
