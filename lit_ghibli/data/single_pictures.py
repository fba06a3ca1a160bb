"""Single pictures at full size, as the methods that look at one of them need them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_ghibli.data.image_files import FolderError, ImageFileError, bullets, open_image
from lit_ghibli.images import from_picture

Size = tuple[int, int]  # height, width


def load_pictures(paths: Sequence[str | Path]) -> list[Tensor]:
    """Read pictures as ``(1, 3, H, W)`` in ``[-1, 1]``.

    Raises:
        FolderError: Some cannot be read; the message names each.
    """
    pictures, bad = [], []
    for path in paths:
        try:
            pictures.append(from_picture(open_image(path)))
        except ImageFileError as error:
            bad.append(str(error))
    if bad:
        raise FolderError(f"{len(bad)} of {len(paths)} pictures cannot be used:", *bullets(bad))
    return pictures


def scaled_size(picture: Tensor, long_side: int | None, scale: float) -> Size:
    """The size of a picture whose long side becomes ``long_side`` (None or 0: stays as it is), then times ``scale``.

    The aspect is kept up to the rounding to whole pixels; no side falls below 1.
    """
    height, width = picture.shape[-2:]
    factor = scale * (long_side / max(height, width) if long_side else 1.0)
    return max(1, round(height * factor)), max(1, round(width * factor))


def resize(picture: Tensor, size: Size) -> Tensor:
    """Resize ``(N, C, H, W)`` bicubically, antialiased; unchanged where the size is right already.

    Values may overshoot the picture's range a little at sharp edges.
    """
    if picture.shape[-2:] == size:
        return picture
    return F.interpolate(picture, size, mode="bicubic", antialias=True)


def match_colors(picture: Tensor, reference: Tensor) -> Tensor:
    """Recolor a picture linearly so that its colors have the mean and covariance of another's.

    Args:
        picture: ``(1, 3, H, W)`` in ``[-1, 1]``.
        reference: ``(1, 3, h, w)`` in ``[-1, 1]``, of any size.

    Returns:
        ``(1, 3, H, W)``, not clamped: single colors may leave the range.

    Source: Gatys et al. 2016, "Preserving Color in Neural Artistic Style Transfer", section 2.1, with the square
    roots of their Eq. 5 ("Image Analogies").
    """
    colors, reference_colors = (image.double().flatten(2)[0] for image in (picture, reference))
    mean, reference_mean = (x.mean(dim=1, keepdim=True) for x in (colors, reference_colors))
    # A picture of fewer than three independent colors, such as a grey one, leaves the other directions alone.
    transform = _power(torch.cov(reference_colors), 0.5) @ _power(torch.cov(colors), -0.5)
    matched = transform @ (colors - mean) + reference_mean
    return matched.view(picture.shape).to(picture.dtype)


def _power(covariance: Tensor, exponent: float) -> Tensor:
    """A symmetric positive semi-definite matrix to a power, directions without variance at 0."""
    variances, directions = torch.linalg.eigh(covariance)
    present = variances > 1e-8 * variances.max().clamp(min=1e-8)
    powers = torch.where(present, variances.clamp(min=1e-30) ** exponent, torch.zeros_like(variances))
    return directions * powers @ directions.mT
