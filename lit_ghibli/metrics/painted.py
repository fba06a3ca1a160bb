"""How painted a picture is, without any network: fills should grow flat, contours should stay where they are."""

from torch import Tensor

from lit_ghibli.images import luminance
from lit_ghibli.metrics.structure import correlation, gradient_magnitude, require_same_shape
from lit_ghibli.painter.filters import blur

# Levels of 255 from one pixel to the next
_FLAT = 1.25
_CONTOUR, _STRONGEST = 8.0, 28.0  # a contour begins and counts fully
_SPREAD = 2.0  # pixels: a contour that was drawn anew lies beside the photograph's
_NO_CONTOUR = 1e-3  # standard deviation, in levels


def flat_area_gained(pictures: Tensor, photos: Tensor) -> Tensor:
    """Share of a picture's area that is flat, less that of its photograph: what became fill, above 0, or texture.

    Flat is where the luminance changes by less than 1.25 levels of 255 from pixel to pixel (Sobel's gradient).

    Args:
        pictures: ``(N, 3, H, W)`` in ``[0, 1]``.
        photos: Of the same shape and range.

    Returns:
        ``(N,)`` in ``[-1, 1]``; 0 for the photograph itself.

    Raises:
        ValueError: The shapes differ.
    """
    require_same_shape(photos, pictures)
    flat = [(_gradient(images) < _FLAT).float().mean(dim=(1, 2, 3)) for images in (pictures, photos)]
    return flat[0] - flat[1]


def contours_kept(pictures: Tensor, photos: Tensor) -> Tensor:
    """Correlation of the strong gradients of a picture with those of its photograph: whether contours are the same.

    Gradients of the luminance count from 8 levels of 255 a pixel, up to 28, and are blurred by 2 pixels, so that
    contours may be thicker or lie a little beside. Without any in one of the two there is nothing to compare: 0.

    Args:
        pictures: ``(N, 3, H, W)`` in ``[0, 1]``.
        photos: Of the same shape and range.

    Returns:
        ``(N,)`` in ``[-1, 1]``; 1 for the photograph itself.

    Raises:
        ValueError: The shapes differ.
    """
    require_same_shape(photos, pictures)
    strong = [
        blur((_gradient(images).clamp(max=_STRONGEST) - _CONTOUR).clamp(min=0.0), _SPREAD)
        for images in (pictures, photos)
    ]
    return correlation(*strong, least=_NO_CONTOUR)


def _gradient(images: Tensor) -> Tensor:
    """Of the luminance, ``(N, 1, H, W)``, in levels a pixel."""
    return gradient_magnitude(255 * luminance(images.float())).unsqueeze(1)
