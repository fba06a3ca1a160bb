"""Color profiles: pictures of cameras, telephones and editors whose numbers mean other colors than those of sRGB."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # Pillow's names of a profile's color spaces
_SRGB_GAMMA = 0.45455  # of the gAMA chunk that stands for sRGB, also in files that say no more


def to_srgb(image: Image.Image, profile: bytes | None, gamma: float | None = None) -> Image.Image:
    """Convert a picture of mode ``L``, ``RGB`` or ``CMYK`` to RGB, whose numbers are then those of sRGB.

    Args:
        image: Without transparency.
        profile: ICC profile; where there is none, or a damaged one, or one of another kind of picture, the picture is
            taken for sRGB.
        gamma: Of a PNG without a profile: the exponent by which its numbers were made of amounts of light.
    """
    if profile and (transform := _transform(profile, image.mode)):
        source, conversion = transform
        return ImageCms.applyTransform(image.convert(source), conversion)
    image = image.convert("RGB")
    if profile or not gamma or abs(gamma - _SRGB_GAMMA) < 0.01:
        return image
    light = np.linspace(0.0, 1.0, 256) ** (1.0 / gamma)
    levels = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
    return image.point((255.0 * levels).round().astype(int).tolist() * 3)


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
