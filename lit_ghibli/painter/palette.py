"""A palette: how a painter changes the lightness, chroma and hue of what is there, in OKLab."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class HueBand:
    """Colors about one hue, which a palette draws to another.

    Attributes:
        hue: Centre, as an angle of (a, b) in radians: red 0.5, yellow 1.9, green 2.5, blue -1.6.
        width: Standard deviation of the band, in radians.
        target: Hue that its colors are drawn to.
        pull: By which share of the way.
        chroma: What is added to the palette's factor of chroma.
    """

    hue: float
    width: float
    target: float
    pull: float
    chroma: float


@dataclass(frozen=True)
class Palette:
    """Changes of color.

    Attributes:
        gamma: Exponent of lightness; below 1 lightens the shadows.
        lift: Lightness of black.
        chroma: Factor of chroma.
        chroma_limit: Chroma that none exceeds, reached softly.
        bands: Hues with a treatment of their own.
        shadow: What is added to (a, b) in the dark, falling with the square of lightness.
        light: What is added to (a, b) in the light, rising with the cube of lightness.
    """

    gamma: float
    lift: float
    chroma: float
    chroma_limit: float
    bands: Sequence[HueBand]
    shadow: tuple[float, float]
    light: tuple[float, float]

    def __call__(self, lab: Tensor) -> Tensor:
        """The colors of an OKLab picture (B, 3, H, W) in this palette."""
        lightness, a, b = lab.unbind(1)
        chroma, hue = torch.hypot(a, b), torch.atan2(b, a)
        factor = torch.full_like(chroma, self.chroma)
        turn = torch.zeros_like(hue)
        certain = chroma / (chroma + 0.02)  # the hue of a grey is noise
        for band in self.bands:
            share = certain * torch.exp(-0.5 * (turned(hue - band.hue) / band.width) ** 2)
            factor += band.chroma * share
            turn += band.pull * share * turned(band.target - hue)
        chroma = self.chroma_limit * torch.tanh(chroma * factor / self.chroma_limit)
        hue = hue + turn
        lightness = lightness.clamp(0, 1)
        dark, bright = (1 - lightness) ** 2, lightness**3
        a = chroma * torch.cos(hue) + self.shadow[0] * dark + self.light[0] * bright
        b = chroma * torch.sin(hue) + self.shadow[1] * dark + self.light[1] * bright
        return torch.stack([self.lift + (1 - self.lift) * lightness**self.gamma, a, b], dim=1)


def turned(angle: Tensor) -> Tensor:
    """The same angle in [-pi, pi)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
