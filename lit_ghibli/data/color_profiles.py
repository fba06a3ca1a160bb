"""Color profiles: pictures of cameras, telephones and editors whose numbers mean other colors than those of sRGB."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # Pillow's names of a profile's color spaces


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert a picture of mode ``L``, ``RGB`` or ``CMYK`` to RGB, whose numbers are then those of sRGB.

    Args:
        image: Without transparency.
        profile: ICC profile; where there is none, or a damaged one, or one of another kind of picture, the picture is
            taken for sRGB, and CMYK for what Pillow makes of it.
    """
    if profile and (transform := _transform(profile, image.mode)):
        source, conversion = transform
        return ImageCms.applyTransform(image.convert(source), conversion)
    return image.convert("RGB")


@lru_cache(maxsize=16)  # the pictures of a folder mostly have the same one
def _transform(profile: bytes, mode: str) -> tuple[str, ImageCms.ImageCmsTransform] | None:
    """The mode that a profile's conversion begins with, and the conversion; None where it would be of no use."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        source = _MODES.get(opened.profile.xcolor_space.strip())
        if source != mode and (source, mode) != ("RGB", "L"):
            return None
        conversion = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), source, "RGB")
    except (OSError, ImageCms.PyCMSError):
        return None
    # Most profiles are sRGB's own, by one maker or another: their pictures stay as they are, to the bit.
    colors = Image.fromarray(np.stack(np.meshgrid(*[np.arange(0, 256, 15, dtype=np.uint8)] * 3), -1).reshape(18, -1, 3))
    converted = ImageCms.applyTransform(colors, conversion) if source == "RGB" else None
    same = converted and np.abs(np.subtract(converted, colors, dtype=np.int16)).max() <= 1
    return None if same else (source, conversion)
