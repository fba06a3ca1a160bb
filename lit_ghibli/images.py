"""The only conversions between image tensors, pixels and pictures, and between their value ranges.

Inside the suite an image is a float tensor ``(..., 3, H, W)`` in ``[-1, 1]``. Files and caches hold
``uint8`` in ``[0, 255]``; metrics and pictures for people take ``[0, 1]``.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


def from_uint8(images: Tensor) -> Tensor:
    """Convert ``uint8`` in ``[0, 255]`` to ``float32`` in ``[-1, 1]``."""
    return images.float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Convert ``[-1, 1]`` to ``uint8`` in ``[0, 255]``: clamped, then rounded to the nearest level."""
    return images.detach().float().clamp(-1.0, 1.0).add_(1.0).mul_(127.5).round_().to(torch.uint8)


def to_pixels(images: Tensor) -> NDArray[np.uint8]:
    """Convert ``(3, H, W)``, or the first of ``(N, 3, H, W)``, in ``[-1, 1]`` to ``uint8`` ``(H, W, 3)``.

    What is of ``uint8`` already stays as it is.
    """
    image = images[0] if images.dim() == 4 else images
    return (to_uint8(image) if image.is_floating_point() else image).permute(1, 2, 0).cpu().numpy()


def to_picture(images: Tensor) -> Image.Image:
    """Convert ``(3, H, W)``, or the first of ``(N, 3, H, W)``, in ``[-1, 1]`` to an RGB picture."""
    return Image.fromarray(to_pixels(images))


def from_picture(picture: Image.Image | NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """Convert an RGB picture, or its pixels ``(H, W, 3)``, to ``(1, 3, H, W)`` in ``[-1, 1]`` on a device."""
    return from_uint8(from_picture_uint8(picture, device))


def from_picture_uint8(picture: Image.Image | NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """An RGB picture, or its pixels ``(H, W, 3)``, as ``(1, 3, H, W)`` of ``uint8`` on a device."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).unsqueeze(0).to(device)


def resample(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Bring a picture to a width and a height: bicubically, antialiased where it is reduced; one of that size stays.

    The only resampler of what is trained on or measured: pictures that differ in how they were resized differ in every
    metric.
    """
    return picture if picture.size == tuple(size) else picture.resize(size, Image.Resampling.BICUBIC)


def to_unit(images: Tensor) -> Tensor:
    """Convert ``[-1, 1]`` to ``[0, 1]``, clamped."""
    return images.float().add(1.0).mul(0.5).clamp(0.0, 1.0)


def luminance(images: Tensor) -> Tensor:
    """Rec. 601 luma of RGB images ``(N, 3, H, W)``, in the images' own range: ``(N, 1, H, W)``."""
    red, green, blue = images.split(1, dim=1)  # times plain numbers: to make a tensor of them, a GPU is waited for
    return 0.299 * red + 0.587 * green + 0.114 * blue
