"""A palette, and how flat and how outlined the fills are, from a folder of paintings beside one of photographs.

No painting shows what a photograph shows, so that only statistics can be compared, in OKLab: medians of lightness, mean
chroma, the hues that the paintings prefer near each hue, and the tints of their shadows and lights.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from lit_ghibli.errors import UserError
from lit_ghibli.painter.filters import derivatives
from lit_ghibli.painter.oklab import to_oklab
from lit_ghibli.painter.painter import Painter
from lit_ghibli.painter.palette import HueBand, Palette, turned

BANDS = 8  # hues about the circle that are looked at
LEAST_SHARE = 0.02  # of the paintings' colors that a band has to have
NEAR = 0.6  # radians: preferred hues are looked for no further off
PULL = 0.7
FLAT = 2.5 / 255  # change per pixel of a flat fill
GREY, ONE_COLOR = 0.012, 0.02  # chroma, and spread of all colors, below which a folder is so called


@dataclass(frozen=True)
class Look:
    """Statistics of a set of pictures.

    Attributes:
        lightness: Median.
        black: Lightness that a fiftieth is darker than.
        chroma: Mean.
        strongest: Chroma that a fiftieth exceeds.
        shares: Of the bands in all chroma.
        hues: Preferred hue near the centre of each band.
        chromas: Mean chroma of each band.
        shadow: Mean (a, b) of the dark third.
        light: Mean (a, b) of the light third.
        spread: Standard deviation of all colors.
        flat: Share of flat pixels.
        ink: Mean ink that the painter's detector finds.
    """

    lightness: float
    black: float
    chroma: float
    strongest: float
    shares: list[float]
    hues: list[float]
    chromas: list[float]
    shadow: tuple[float, float]
    light: tuple[float, float]
    spread: float
    flat: float
    ink: float


def look(pictures: Iterable[Tensor], painter: Painter) -> Look:
    """Measure pictures ``(1, 3, H, W)`` in [0, 1], all of about the painter's reference size."""
    colors, flat, ink = [], [], []
    for picture in pictures:
        lab = to_oklab(picture).flatten(2)[0]
        colors.append(lab[:, :: max(lab.shape[1] // 20_000, 1)])
        change = torch.hypot(*(d.mean(1) for d in derivatives(picture)))
        flat.append((change < FLAT).float().mean())
        ink.append(painter.ink(picture).mean())
    lightness, a, b = torch.cat(colors, dim=1)
    chroma, hue = torch.hypot(a, b), torch.atan2(b, a)
    shares, hues, chromas = [], [], []
    for centre in _centres():
        near = torch.exp(-0.5 * (turned(hue - centre) / (math.pi / BANDS)) ** 2)
        weight = near * chroma
        around = weight * (turned(hue - centre).abs() < NEAR)
        mean = torch.atan2((around * torch.sin(hue - centre)).sum(), (around * torch.cos(hue - centre)).sum())
        shares.append(float(weight.sum() / chroma.sum().clamp_min(1e-6)))
        hues.append(centre + float(mean))
        chromas.append(float(weight.sum() / near.sum().clamp_min(1e-6)))
    dark, light = (lightness <= lightness.quantile(1 / 3)), (lightness >= lightness.quantile(2 / 3))
    return Look(
        float(lightness.median()),
        float(lightness.quantile(0.02)),
        float(chroma.mean()),
        float(chroma.quantile(0.98)),
        shares,
        hues,
        chromas,
        (float(a[dark].mean()), float(b[dark].mean())),
        (float(a[light].mean()), float(b[light].mean())),
        float(torch.stack([lightness, a, b]).std(dim=1).norm()),
        float(torch.stack(flat).mean()),
        float(torch.stack(ink).mean()),
    )


def fit(painter: Painter, paintings: Look, photos: Look, drawn: float) -> Painter:
    """The painter with the palette of the paintings, for photographs like these, and with outlines as strong.

    ``drawn`` is the mean ink in what it paints of the photographs until now.
    """
    gamma, lift = _gamma_and_lift(paintings, photos)
    factor = _within(paintings.chroma / max(photos.chroma, 1e-3), 0, 1.6)
    bands = []
    for centre, share, hue, chroma, before in zip(
        _centres(), paintings.shares, paintings.hues, paintings.chromas, photos.chromas, strict=True
    ):
        if share >= LEAST_SHARE and paintings.chroma > GREY:
            extra = _within(chroma / max(before, 1e-3) - factor, -0.4, 0.4)
            bands.append(HueBand(centre, math.pi / BANDS, hue, PULL, extra))
    palette = Palette(
        gamma=gamma,
        lift=lift,
        chroma=factor,
        chroma_limit=_within(1.3 * paintings.strongest, 0.02, 0.32),
        bands=bands,
        shadow=_tint(paintings.shadow, photos.shadow, factor),
        light=_tint(paintings.light, photos.light, factor),
    )
    opacity = painter.outlines.opacity * paintings.ink / max(drawn, 1e-4)
    lines = replace(painter.outlines, opacity=_within(opacity, 0.2, 0.95))
    return replace(painter, palette=palette, outlines=lines)


def require_palette(paintings: Look) -> None:
    """Refuse paintings without a palette.

    Raises:
        UserError: They are all of one color.
    """
    if paintings.spread < ONE_COLOR:
        raise UserError("the pictures are of one color: there is no palette to take from them")


def verdict(paintings: Look, photos: Look) -> str | None:
    """What a user should know of the pictures before a style is made of them; None where all is well."""
    if paintings.chroma < GREY:
        return "the pictures are grey: so will the style be"
    if paintings.flat < photos.flat + 0.03:
        return "the pictures have hardly more flat areas than photographs: are they paintings?"
    return None


def as_config(painter: Painter) -> dict:
    """The palette's and the outlines' values as ``conf/painter/`` has them."""
    palette = asdict(painter.palette)
    target = f"{HueBand.__module__}.{HueBand.__qualname__}"
    palette["bands"] = [{"_target_": target, **band} for band in palette["bands"]]
    return {"palette": palette, "outlines": {"opacity": painter.outlines.opacity}}


def _gamma_and_lift(paintings: Look, photos: Look) -> tuple[float, float]:
    """What makes the photographs' black and median lightness those of the paintings.

    Either follows from the other, so that taking turns comes to both; gamma goes first, since it lightens black, too.
    """
    gamma, lift = 1.0, 0.0
    for _ in range(30):
        target = _within((paintings.lightness - lift) / (1 - lift), 0.05, 0.95)
        gamma = _within(math.log(target) / math.log(_within(photos.lightness, 0.05, 0.95)), 0.6, 1.4)
        black = _within(photos.black, 0, 0.95) ** gamma
        lift = _within((paintings.black - black) / (1 - black), 0, 0.15)
    return gamma, lift


def _tint(paintings: tuple[float, float], photos: tuple[float, float], factor: float) -> tuple[float, float]:
    """Half of what the paintings' mean color has beyond that of photographs in this palette."""
    return tuple(_within(0.5 * (new - factor * old), -0.05, 0.05) for new, old in zip(paintings, photos, strict=True))


def _centres() -> list[float]:
    return [-math.pi + 2 * math.pi * number / BANDS for number in range(BANDS)]


def _within(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
