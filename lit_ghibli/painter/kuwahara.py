"""The anisotropic Kuwahara filter: every pixel takes the color of the calmest sector of an ellipse along the form.

Source: Kyprianidis, Kang and Doellner, Image and video abstraction by anisotropic Kuwahara filtering (2009). Their
sectors are sums over pixels; here each is a mixture of Gaussians (a centre and two rings of points), whose means and
variances are exact: a blurred picture and its blurred square are read at the points. The time so does not depend on
the radius, and no sums over hundreds of pixels are needed.
"""

import math

import torch
from torch import Tensor

from lit_ghibli.painter.filters import blur, pixel_grid, sample
from lit_ghibli.painter.flow import Flow

SECTORS = 8
RINGS = ((0.4, 0.8), (0.8, 1.0))  # (radius of the ring, its weight in a sector)
CENTRE = 0.5  # weight of the middle of the ellipse in every sector
NEIGHBOR = 0.5  # weight of the two adjoining directions: sectors overlap
SPREAD = 0.22  # sigma of a Gaussian in radii


def kuwahara(picture: Tensor, flow: Flow, radius: float, sharpness: float, stretch: float = 1.0) -> Tensor:
    """The filtered picture.

    Args:
        picture: (B, C, H, W) in [0, 1].
        flow: of the picture.
        radius: of the ellipse in pixels where the flow has no direction.
        sharpness: q, how strictly the calmest sector wins.
        stretch: an ellipse along an edge has the axes radius * (1 + 1 / stretch) and radius / (1 + 1 / stretch).
    """
    channels = picture.shape[1]
    # Squared about the mean, for the difference of two nearly equal numbers loses the variance in float32.
    centred = picture - 0.5
    moments = torch.cat([centred, (centred**2).sum(1, keepdim=True)], dim=1)
    moments = blur(moments, SPREAD * radius)

    elongation = 1 + flow.anisotropy[:, 0] / stretch
    along_x, along_y = (flow.along * (radius * elongation)[:, None]).unbind(1)
    across_x, across_y = -flow.along[:, 1] * (radius / elongation), flow.along[:, 0] * (radius / elongation)
    x, y = pixel_grid(picture)
    directions = []
    for sector in range(SECTORS):
        cos, sin = math.cos(2 * math.pi * sector / SECTORS), math.sin(2 * math.pi * sector / SECTORS)
        dx, dy = cos * along_x + sin * across_x, cos * along_y + sin * across_y
        directions.append(sum(weight * sample(moments, x + ring * dx, y + ring * dy) for ring, weight in RINGS))

    ring_weight = sum(weight for _, weight in RINGS)
    total = CENTRE + ring_weight * (1 + 2 * NEIGHBOR)
    result, weights = 0, 0
    for sector in range(SECTORS):
        sides = directions[sector - 1] + directions[(sector + 1) % SECTORS]
        mixed = (CENTRE * moments + directions[sector] + NEIGHBOR * sides) / total
        mean = mixed[:, :channels]
        variance = (mixed[:, channels:] - (mean**2).sum(1, keepdim=True)).clamp_min(0)
        weight = 1 / (1 + (255**2 * variance) ** (sharpness / 2))
        result = result + weight * mean
        weights = weights + weight
    return result / weights + 0.5
