"""A painter that needs no training: a chain of filters from a photograph to flat strokes with outlines.

Kuwahara strokes along the forms, L0 smoothing into flat fills, a palette, and coherent outlines in dark tones of the
colors beneath. Every length is in pixels of a picture with `REFERENCE` pixels and grows with the picture, so that
strokes keep their size relative to it.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from lit_ghibli.errors import UserError
from lit_ghibli.images import from_picture, to_picture, to_unit
from lit_ghibli.painter.filters import blur
from lit_ghibli.painter.flow import Flow, flow, unrest
from lit_ghibli.painter.kuwahara import kuwahara
from lit_ghibli.painter.l0 import l0_smooth
from lit_ghibli.painter.oklab import from_oklab, to_oklab
from lit_ghibli.painter.outlines import outlines
from lit_ghibli.painter.palette import Palette

REFERENCE = 640 * 480  # pixels
_THINNEST = 0.6  # pixels: thinner lines, of small pictures, would fall between them


@dataclass(frozen=True)
class Strokes:
    """How forms become strokes.

    Attributes:
        denoise: Sigma of the blur before all else.
        flow: Sigma of the structure tensor.
        radius: Of the Kuwahara filter's ellipse.
        sharpness: How strictly its calmest sector wins.
    """

    denoise: float
    flow: float
    radius: float
    sharpness: float

    def __post_init__(self) -> None:
        _check("strokes", self, {"denoise": (0, 20), "flow": (0.1, 20), "radius": (0.1, 50), "sharpness": (1, 16)})


@dataclass(frozen=True)
class Fills:
    """How strokes become flat fills.

    Attributes:
        weight: Lambda of the L0 smoothing.
        texture: By how many times more at most where texture is dense.
        texture_contrast: Mean contrast of a texture that gets all of this.
        calm: Change per pixel below which an area is calm and keeps its gradient, as a sky does.
        growth: Of the solver's beta, in each round.
        beta_max: Where it ends.
    """

    weight: float
    texture: float
    texture_contrast: float
    calm: float
    growth: float
    beta_max: float

    def __post_init__(self) -> None:
        ranges = {"weight": (1e-5, 1), "texture": (0, 100), "texture_contrast": (1e-6, 1), "calm": (1e-6, 1)}
        _check("fills", self, ranges | {"growth": (1.1, 10), "beta_max": (1, 1e8)})

    def lay(self, picture: Tensor, forms: Flow, unit: float = 1.0) -> Tensor:
        """Lay a picture (1, 3, H, W) in [0, 1] with this flow flat; lengths are multiplied by ``unit``."""
        contrast = blur((picture - blur(picture, 2 * unit)).abs().mean(1, keepdim=True), 8 * unit)
        texture = (contrast / self.texture_contrast).clamp(0, 1)
        weight = self.weight * (1 + self.texture * texture) * unrest(forms, self.calm, unit)
        return l0_smooth(picture, weight, self.growth, self.beta_max).clamp(0, 1)


@dataclass(frozen=True)
class Outlines:
    """How outlines are drawn; see `outlines` for the first five.

    Attributes:
        width: Sigma of a line.
        threshold: Drop of log luminance that is no line yet.
        gain: Ink per drop beyond it.
        length: Of the smoothing along a line.
        crowding: How far lines fade where they crowd.
        darkness: Lightness of ink as a share of what lies beneath.
        opacity: Of ink.
    """

    width: float
    threshold: float
    gain: float
    length: float
    crowding: float
    darkness: float
    opacity: float

    def __post_init__(self) -> None:
        ranges = {"width": (0.1, 20), "threshold": (0, 1), "gain": (0, 1e4), "length": (0, 100), "crowding": (0, 100)}
        _check("outlines", self, ranges | {"darkness": (0, 1), "opacity": (0, 1)})

    def ink(self, picture: Tensor, forms: Flow, unit: float = 1.0) -> Tensor:
        """How much ink the outlines of a picture (B, 3, H, W) in [0, 1] with this flow take, (B, 1, H, W) from 0 to 1.

        Lengths are multiplied by ``unit``.
        """
        width = max(self.width * unit, _THINNEST)
        return outlines(picture, forms, width, self.threshold, self.gain, self.length * unit, self.crowding)

    def darken(self, lightness: Tensor, ink: Tensor) -> Tensor:
        """Lightness (B, 1, H, W) under so much ink."""
        return lightness * (1 - self.opacity * (1 - self.darkness) * ink)


@dataclass(frozen=True)
class Painter:
    """The chain; its parts are the settings of its steps."""

    strokes: Strokes
    fills: Fills
    outlines: Outlines
    palette: Palette

    def __call__(self, photo: Image.Image) -> Image.Image:
        """Paint an RGB picture."""
        return to_picture(self.paint(to_unit(from_picture(photo))) * 2 - 1)

    @torch.no_grad()
    def paint(self, photo: Tensor, unit: float | None = None) -> Tensor:
        """Paint photographs (B, 3, H, W) in [0, 1], each by itself; the pictures are of the same shape and range.

        Lengths are multiplied by ``unit``; None for the photograph's side over that of a picture of `REFERENCE` pixels.
        """
        unit = unit or math.sqrt(photo.shape[-2] * photo.shape[-1] / REFERENCE)
        return torch.cat([self._paint(each, unit) for each in photo.split(1)])

    def _paint(self, photo: Tensor, unit: float) -> Tensor:
        strokes = self.strokes
        photo = blur(photo, strokes.denoise * unit)
        forms = flow(photo, strokes.flow * unit)
        picture = kuwahara(photo, forms, strokes.radius * unit, strokes.sharpness)
        picture = self.fills.lay(picture, forms, unit)
        lab = self.palette(to_oklab(picture))
        lab[:, :1] = self.outlines.darken(lab[:, :1], self.ink(picture, unit))
        return from_oklab(lab)

    def ink(self, picture: Tensor, unit: float = 1.0) -> Tensor:
        """How much ink the outlines of a picture (B, 3, H, W) in [0, 1] take, (B, 1, H, W) from 0 to 1."""
        return self.outlines.ink(picture, flow(picture, self.strokes.flow * unit), unit)


def _check(part: str, settings: Any, ranges: dict[str, tuple[float, float]]) -> None:
    for name, (low, high) in ranges.items():
        if not low <= getattr(settings, name) <= high:
            raise UserError(f"painter.{part}.{name} must lie in {low:g} ... {high:g}; got {getattr(settings, name)}")
