"""How well a picture keeps its photograph's structure and meaning, and how far it has gone from it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_ghibli.images import luminance, to_unit

STRUCTURE_SIDE = 256  # pixels: finer texture is what a drawing leaves out, and is no fault of it

_FLAT = 1e-5  # standard deviation of gradients, images in [-1, 1]: below a single step of one level
# Linear sRGB to XYZ over the white point D65, so that white is (1, 1, 1). Source: IEC 61966-2-1.
_XYZ = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
_WHITE = [0.95047, 1.0, 1.08883]


def structure_consistency(photos: Tensor, pictures: Tensor) -> Tensor:
    """Correlation of the gradient magnitudes of the luminance: 1 where all edges are alike, 0 where unrelated.

    Both are reduced to a short side of `STRUCTURE_SIDE` pixels first. Changes of brightness and contrast, and
    inversion, change nothing. Without any edge in one of the two there is nothing to compare: 0.

    Args:
        photos: ``(N, 3, H, W)`` in ``[-1, 1]``.
        pictures: Of the same shape and range.

    Returns:
        ``(N,)`` in ``[0, 1]``; negative correlations count as 0.

    Raises:
        ValueError: The shapes differ.
    """
    require_same_shape(photos, pictures)
    edges = [gradient_magnitude(_reduce(luminance(images.float()))) for images in (photos, pictures)]
    return correlation(*edges, least=_FLAT).clamp(min=0.0)


def correlation(first: Tensor, second: Tensor, least: float) -> Tensor:
    """Pearson's correlation of two maps of each image.

    Args:
        first: ``(N, ...)``.
        second: Of the same shape.
        least: Standard deviation below which there is nothing to compare: 0 then.

    Returns:
        ``(N,)`` in ``[-1, 1]``.
    """
    first, second = (maps.flatten(1) - maps.flatten(1).mean(dim=1, keepdim=True) for maps in (first, second))
    deviations = first.square().mean(dim=1).sqrt(), second.square().mean(dim=1).sqrt()
    found = (first * second).mean(dim=1) / (deviations[0] * deviations[1]).clamp(min=least**2)
    return torch.where(torch.minimum(*deviations) < least, 0.0, found.clamp(-1.0, 1.0))


def style_strength(photos: Tensor, pictures: Tensor) -> Tensor:
    """Mean color difference between photograph and picture, pixel by pixel, in CIE 1976 units (delta E).

    One number for both marks of a style, new colors and lost texture, in a unit with a known meaning: people
    just notice 2.3 between two patches, and white is 100 from black. A copied photograph has 0.

    Args:
        photos: ``(N, 3, H, W)`` in ``[-1, 1]``, sRGB.
        pictures: Of the same shape and range.

    Returns:
        ``(N,)``, at least 0.

    Raises:
        ValueError: The shapes differ.

    Source: CIE 15, CIELAB; Mahy et al. 1994 for what is noticed.
    """
    require_same_shape(photos, pictures)
    return torch.linalg.vector_norm(_lab(photos) - _lab(pictures), dim=1).mean(dim=(1, 2))


def label_agreement(labels: Tensor, others: Tensor, *, num_classes: int, min_share: float = 0.01) -> Tensor:
    """Mean intersection over union of two label maps, over the classes that either map shows.

    Each class counts alike, so that a person who vanishes from a wide landscape is seen, which the share of equal
    pixels would hide.

    Args:
        labels: ``(N, H, W)`` of classes ``0 ... num_classes - 1``.
        others: Of the same shape.
        num_classes: Fewer than ``1 / min_share``.
        min_share: A class counts if it fills this share of one of the maps: specks do not.

    Returns:
        ``(N,)`` in ``[0, 1]``, 1 for equal maps.

    Raises:
        ValueError: The shapes differ.
    """
    require_same_shape(labels, others)
    classes = torch.arange(num_classes, device=labels.device).view(1, -1, 1)
    first, second = (maps.flatten(1).unsqueeze(1) == classes for maps in (labels, others))  # (N, classes, pixels)
    counted = torch.maximum(first.sum(dim=2), second.sum(dim=2)) >= min_share * first.shape[2]
    overlap = (first & second).sum(dim=2) / (first | second).sum(dim=2).clamp(min=1)
    return (overlap * counted).sum(dim=1) / counted.sum(dim=1)


def _reduce(images: Tensor) -> Tensor:
    shorter = min(images.shape[-2:])
    if shorter <= STRUCTURE_SIDE:
        return images
    size = [round(side * STRUCTURE_SIDE / shorter) for side in images.shape[-2:]]
    return F.interpolate(images, size, mode="bilinear", antialias=True)


def gradient_magnitude(images: Tensor) -> Tensor:
    """Sobel's gradient magnitude of images ``(N, 1, H, W)``, in their unit per pixel, borders repeated."""
    smooth, slope = images.new_tensor([0.25, 0.5, 0.25]), images.new_tensor([-0.5, 0.0, 0.5])
    kernels = torch.stack([torch.outer(smooth, slope), torch.outer(slope, smooth)]).unsqueeze(1)
    horizontal, vertical = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernels).unbind(dim=1)
    return torch.hypot(horizontal, vertical)


def _lab(images: Tensor) -> Tensor:
    """CIELAB coordinates ``(N, 3, H, W)`` of sRGB images in ``[-1, 1]``."""
    rgb = to_unit(images)
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    to_xyz = rgb.new_tensor(_XYZ) / rgb.new_tensor(_WHITE).unsqueeze(1)
    xyz = torch.einsum("ij,njhw->nihw", to_xyz, linear)
    x, y, z = torch.where(xyz > (6 / 29) ** 3, xyz.clamp(min=1e-9) ** (1 / 3), xyz * (29 / 6) ** 2 / 3 + 4 / 29).unbind(
        1
    )
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def require_same_shape(first: Tensor, second: Tensor) -> None:
    """Refuse photographs and pictures whose shapes differ.

    Raises:
        ValueError: They do.
    """
    if first.shape != second.shape:
        raise ValueError(f"photographs {tuple(first.shape)} and pictures {tuple(second.shape)} must have equal shapes")
