"""Enlargement to twice the size, by the three conventions of what lies where that published networks have."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

Sampling = Literal["legacy", "half_pixel", "align_corners"]


def bilinear_upsample(features: Tensor, sampling: Sampling) -> Tensor:
    """Enlarge feature maps to twice their height and width, with bilinear interpolation.

    The conventions put output position d at another place of the input, n positions long:

    - ``legacy``: d / 2, beyond the last position its value: TensorFlow 1's ``resize_images``. Even positions keep their
      values, odd ones are the mean of two neighbours.
    - ``half_pixel``: (d + 1/2) / 2 - 1/2, PyTorch's default and TensorFlow 2's.
    - ``align_corners``: d (n - 1) / (2 n - 1).

    Args:
        features: ``(N, C, H, W)``.
        sampling: The convention.

    Returns:
        ``(N, C, 2 H, 2 W)``.

    Raises:
        ValueError: On another convention.
    """
    if sampling == "legacy":
        height, width = features.shape[-2:]
        # One more position of the last value: from corner to corner, 2 n + 1 outputs then are half an input apart.
        longer = F.pad(features, (0, 1, 0, 1), mode="replicate")
        size = (2 * height + 1, 2 * width + 1)
        return F.interpolate(longer, size, mode="bilinear", align_corners=True)[..., :-1, :-1]
    if sampling in ("half_pixel", "align_corners"):
        corners = sampling == "align_corners"
        return F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=corners)
    raise ValueError(f"sampling is {sampling!r}; it must be 'legacy', 'half_pixel' or 'align_corners'")
