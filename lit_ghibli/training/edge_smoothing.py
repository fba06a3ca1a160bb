"""Edge smoothing: drawn pictures whose edges are soft, which a discriminator shall learn to tell from real ones."""

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_ghibli.images import luminance, to_uint8

_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # OpenCV's Gaussian of 5 pixels where no sigma is given
_TAN_22, _TAN_67 = 2**0.5 - 1, 2**0.5 + 1
_GROWTHS_BETWEEN_LOOKS = 8  # to see whether edges still grow, a GPU must be waited for


@torch.no_grad()
def smooth_edges(pictures: Tensor) -> Tensor:
    """Blur pictures where they have an edge, and leave the rest as it is.

    Within two rows and columns of a pixel on an edge the picture is replaced by its blur with a Gaussian of 5x5
    pixels, for which it is mirrored at its borders.

    Args:
        pictures: ``(N, 3, H, W)`` in ``[-1, 1]``, RGB, H and W at least 3.

    Returns:
        Pictures of the same shape, without gradient.

    Source: Chen et al. 2018, section 3.2; sizes and thresholds as all released codes have them.
    """
    blurred = pictures
    for axis in (-2, -1):
        length = pictures.shape[axis]
        padded = F.pad(blurred, (0, 0, 2, 2) if axis == -2 else (2, 2, 0, 0), mode="reflect")
        blurred = sum(weight * padded.narrow(axis, start, length) for start, weight in enumerate(_BINOMIAL))
    return torch.where(_dilated(canny(pictures).float(), 5) > 0, blurred, pictures)


@torch.no_grad()
def canny(pictures: Tensor, low: float = 100.0, high: float = 200.0) -> Tensor:
    """Edges of pictures: ridges of the luminance's gradient that are steep, or lead to where one is.

    The gradient is Sobel's, of luminance in 255 whole levels, and its length the sum of both absolute components.

    Args:
        pictures: ``(N, 3, H, W)`` in ``[-1, 1]``, RGB.
        low: What the gradient of an edge exceeds.
        high: What it exceeds somewhere along the edge.

    Returns:
        A mask ``(N, 1, H, W)``.

    Source: Canny 1986, with the details of OpenCV.
    """
    grey = luminance(to_uint8(pictures).float()).round()
    dx, dy = _sobel(grey)
    length = dx.abs() + dy.abs()
    peak = _is_ridge(length, dx, dy)
    return _grown(peak & (length > high), peak & (length > low))


def _sobel(grey: Tensor) -> tuple[Tensor, Tensor]:
    # By slices: autocast would compute a convolution in few bits.
    height, width = grey.shape[-2:]
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    columns = [padded[..., start : start + width] for start in range(3)]
    rows = [padded[..., start : start + height, :] for start in range(3)]
    across, down = columns[2] - columns[0], rows[2] - rows[0]
    dx = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    dy = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    return dx, dy


def _is_ridge(length: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Where the gradient is longer than at both neighbours in its direction, of which there are four."""
    height, width = length.shape[-2:]
    padded = F.pad(length, (1, 1, 1, 1))

    def neighbour(row: int, column: int) -> Tensor:
        return padded[..., 1 + row : 1 + row + height, 1 + column : 1 + column + width]

    # Of two equal neighbours the one to the right, or below, is on the edge.
    horizontal = (length > neighbour(0, -1)) & (length >= neighbour(0, 1))
    vertical = (length > neighbour(-1, 0)) & (length >= neighbour(1, 0))
    falling = (length > neighbour(-1, -1)) & (length > neighbour(1, 1))
    rising = (length > neighbour(-1, 1)) & (length > neighbour(1, -1))
    diagonal = torch.where(dx * dy >= 0, falling, rising)
    flat, steep = dy.abs() < _TAN_22 * dx.abs(), dy.abs() > _TAN_67 * dx.abs()
    return torch.where(flat, horizontal, torch.where(steep, vertical, diagonal))


def _grown(seeds: Tensor, allowed: Tensor) -> Tensor:
    """All that is allowed and connected to seeds, diagonally too."""
    grown, allowed = seeds.float(), allowed.float()
    while True:
        before = grown
        for _ in range(_GROWTHS_BETWEEN_LOOKS):
            grown = _dilated(grown, 3) * allowed
        if torch.equal(grown, before):
            return grown > 0


def _dilated(mask: Tensor, size: int) -> Tensor:
    return F.max_pool2d(mask, size, stride=1, padding=size // 2)
