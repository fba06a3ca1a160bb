"""Coherent outlines: dark lines where a picture darkens against its surroundings, drawn along the forms.

Source: Kang, Lee and Chui, Coherent line drawing (2007): a difference of Gaussians smoothed along the flow; here of the
logarithm of luminance, so that ink follows contrast and dark areas are not filled.
"""

import torch
from torch import Tensor

from lit_ghibli.images import luminance
from lit_ghibli.painter.filters import blur, pixel_grid, sample
from lit_ghibli.painter.flow import Flow

CROWD = 0.2  # share of inked pixels of a crowd


def outlines(
    picture: Tensor, flow: Flow, width: float, threshold: float, gain: float, length: float, crowding: float
) -> Tensor:
    """How much ink lies on each pixel (B, 1, H, W), from 0 to 1.

    Args:
        picture: (B, 3, H, W) in [0, 1].
        flow: of the picture.
        width: of a line: sigma of the inner Gaussian in pixels.
        threshold: drop of log luminance from which on ink is laid.
        gain: ink per drop beyond it, until all is laid.
        length: pixels over which a line is smoothed along the flow, each way.
        crowding: how far lines fade where many of them stand close together, as in leaves; 0 not at all.
    """
    log = torch.log(luminance(picture).clamp_min(0) + 0.1)
    drop = along_flow(blur(log, 1.6 * width) - blur(log, width), flow, max(round(length), 1))
    ramp = ((drop - threshold) * gain).clamp(0, 1)
    ink = ramp**2 * (3 - 2 * ramp)
    crowd = (blur(ink, 9 * width) / CROWD - 0.5).clamp_min(0)
    return ink / (1 + crowding * crowd)


def along_flow(picture: Tensor, flow: Flow, steps: int) -> Tensor:
    """Line integral convolution: a Gaussian of steps / 2 pixels along the flow (Cabral and Leedom 1993)."""
    x0, y0 = pixel_grid(picture)
    total, weights = picture.clone(), 1.0
    both = torch.cat([picture, flow.along], dim=1)  # what is read at the same points is read at once
    for sign in (1.0, -1.0):
        x, y = x0, y0
        direction = sign * flow.along
        for step in range(1, steps + 1):
            x, y = x + direction[:, 0], y + direction[:, 1]
            weight = float(torch.exp(torch.tensor(-0.5 * (2 * step / steps) ** 2)))
            seen, after = sample(both, x, y).split([picture.shape[1], 2], dim=1)
            total += weight * seen
            weights += weight
            # A direction and its opposite are the same form: keep going the way one came.
            turned = (after * direction).sum(1, keepdim=True) < 0
            direction = torch.where(turned, -after, after)
    return total / weights
