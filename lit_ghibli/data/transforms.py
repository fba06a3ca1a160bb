"""What is done to a picture once, before it is cached: size, halves, and inputs derived from a target.

Each step is a small frozen dataclass, so that its ``repr`` is part of the cache's key.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from PIL import Image, ImageOps

from lit_ghibli.data.image_files import UnsuitablePicture
from lit_ghibli.errors import UserError
from lit_ghibli.images import resample


class Step(Protocol):
    """Turns an RGB picture into another."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """Transform ``image``.

        Raises:
            UnsuitablePicture: The step cannot use it.
        """


@dataclass(frozen=True)
class Resize:
    """Resize with antialiasing.

    Attributes:
        size: Pixels.
        mode: ``squash`` makes ``size`` x ``size`` whatever the aspect ratio (as Zhu et al. 2017 do);
            ``short_side`` makes the shorter side ``size`` and keeps the aspect ratio; ``area`` keeps it, too, and makes
            about as many pixels as a square of ``size``.
    """

    size: int
    mode: Literal["squash", "short_side", "area"]

    def __post_init__(self) -> None:
        if self.mode not in ("squash", "short_side", "area"):
            raise UserError(f"data.resize must be squash, short_side or area; got {self.mode!r}")
        if self.size < 1:
            raise UserError(f"pictures must be resized to at least 1 pixel; got {self.size}")

    def __call__(self, image: Image.Image) -> Image.Image:
        """Resize as :func:`~lit_ghibli.images.resample` does."""
        target = (self.size, self.size)
        if self.mode == "short_side":
            shorter = min(image.size)
            target = tuple(max(self.size, round(side * self.size / shorter)) for side in image.size)
        elif self.mode == "area":
            scale = self.size / math.sqrt(image.width * image.height)
            target = tuple(max(1, round(side * scale)) for side in image.size)
        return resample(image, target)


@dataclass(frozen=True)
class Half:
    """Cut one half out of a picture that holds two side by side.

    Attributes:
        side: ``left`` or ``right``.
        max_aspect: A half longer than this, in either direction, shows that the picture is no such pair.
    """

    side: Literal["left", "right"]
    max_aspect: float

    def __call__(self, image: Image.Image) -> Image.Image:
        """Cut before any resizing, so that nothing bleeds over the seam."""
        width, height = image.size
        if width % 2:
            raise UnsuitablePicture(f"is {width}x{height}: an odd width has no two equal halves")
        aspect = max(width / 2 / height, 2 * height / width)
        if aspect > self.max_aspect:
            raise UnsuitablePicture(
                f"is {width}x{height}, {width / height:.2f}:1, too far from 2:1 for two pictures side by side "
                f"(if it is a pair, raise data.max_half_aspect to {aspect:.2f})"
            )
        left = 0 if self.side == "left" else width // 2
        return image.crop((left, 0, left + width // 2, height))


@dataclass(frozen=True)
class AtLeast:
    """Refuse pictures that are too small.

    Attributes:
        side: Shortest side accepted, in pixels.
    """

    side: int

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the picture as it is."""
        if min(image.size) < self.side:
            raise UnsuitablePicture(
                f"is {image.width}x{image.height}, smaller than {self.side} pixels on its shorter side"
            )
        return image


@dataclass(frozen=True)
class Grayscale:
    """Rec. 601 luma in all three channels: the input of colorisation."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """Take the color away."""
        return ImageOps.grayscale(image).convert("RGB")


@dataclass(frozen=True)
class Edges:
    """Canny edges, black on white: the input of edges -> photo.

    Attributes:
        sigma: Standard deviation of the Gaussian before the gradient, in pixels; larger keeps fewer lines.
    """

    sigma: float

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise UserError(f"data.derive.sigma must be more than 0 pixels; got {self.sigma}")

    def __call__(self, image: Image.Image) -> Image.Image:
        """Draw the edges. Source: Canny 1986, as in scikit-image with its default thresholds."""
        from skimage.feature import canny  # here, since it takes a second and few need it

        gray = np.asarray(ImageOps.grayscale(image), dtype=np.float32) / 255.0
        lines = np.where(canny(gray, sigma=self.sigma), np.uint8(0), np.uint8(255))
        return Image.fromarray(lines).convert("RGB")


@dataclass(frozen=True)
class LowResolution:
    """A reduced picture enlarged to its old size: the input of super-resolution.

    Attributes:
        factor: How many times fewer pixels per side, at least 2.
    """

    factor: int

    def __post_init__(self) -> None:
        if not isinstance(self.factor, int) or self.factor < 2:
            raise UserError(f"data.derive.factor must be a whole number, at least 2; got {self.factor}")

    def __call__(self, image: Image.Image) -> Image.Image:
        """Reduce with antialiasing, enlarge bicubically."""
        small = tuple(max(1, side // self.factor) for side in image.size)
        return image.resize(small, Image.Resampling.BICUBIC).resize(image.size, Image.Resampling.BICUBIC)


@dataclass(frozen=True)
class Posterize:
    """Few levels per channel.

    Attributes:
        bits: Per channel, 1 ... 8: 2 leaves four levels.
    """

    bits: int

    def __post_init__(self) -> None:
        if not isinstance(self.bits, int) or not 1 <= self.bits <= 8:
            raise UserError(f"data.derive.bits must be a whole number, 1 ... 8; got {self.bits}")

    def __call__(self, image: Image.Image) -> Image.Image:
        """Drop the lower bits."""
        return ImageOps.posterize(image, self.bits)
