"""The land of the synthetic scenes: sky, clouds, mountains, water and hills."""

import math
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from lit_ghibli.scenes.canvas import Canvas, Field, Material, blend, clump, color, polygon, smoothstep
from lit_ghibli.scenes.landmarks import LINE, Thing, paint_wires
from lit_ghibli.scenes.palette import CLOUD, CROPS, FLOWERS, PATH, ROCK, SNOW, WATER


class Cloud(NamedTuple):
    """A cumulus: middle of its flat base, width, and height."""

    x: float
    y: float
    width: float
    height: float


class Peak(NamedTuple):
    """A mountain: its summit, the slopes to the left and right of it, how far down snow lies, and its haze."""

    x: float
    y: float
    slopes: tuple[float, float]
    snow: float
    haze: float


class Hill(NamedTuple):
    """A layer of ground: a crest of waves ``(amplitude, frequency, phase)``, and what stands on it."""

    base: float
    waves: tuple[tuple[float, float, float], ...]
    haze: float
    forest: float = 0.0  # height of the trees that cover its crest, 0 for open ground
    fields: tuple[tuple[float, float, float], ...] = ()  # left edge, width, color choice
    path: tuple[float, float, float, float] | None = None  # x at the crest, x below, sway, width below
    flower: int | None = None  # which of the FLOWERS, if any
    things: tuple[Thing, ...] = ()

    def crest(self, x: Field) -> Field:
        """Height of the crest (y, downwards) above each ``x``."""
        return self.base + sum(a * np.sin(f * x + p) for a, f, p in self.waves)


def paint_sky(canvas: Canvas, horizon: float, sun: tuple[float, float], hour: float) -> None:
    """Paint the gradient of the sky, the glow round the sun, its disc when low, and thin high clouds."""
    box, air = canvas.box(), canvas.air
    height = np.clip(box.y / horizon, 0.0, 1.0)
    pictures = [
        zenith + (skyline - zenith) * height**power
        for zenith, skyline, power in zip(air.zenith, air.skyline, (0.9, 1.25), strict=True)
    ]
    canvas.lay(box, 1.0, *pictures)
    away = np.hypot(box.x - sun[0], box.y - sun[1])
    glow = np.exp(-away / (0.12 + 0.1 * hour))
    warm = [color((1.0, 0.93, 0.80)), color((1.0, 0.97, 0.82))]
    canvas.lay(box, (0.25 + 0.5 * hour) * glow, *warm)
    canvas.lay(box, float(hour > 0.8) * canvas.cover(0.035 - away, 0.004), *warm)
    cirrus = smoothstep(0.5, 2.6, canvas.noise["veils"]) * (1.0 - height) * 0.8
    white = [0.5 + 0.5 * air.skyline[0], 0.4 + 0.6 * air.skyline[1]]
    canvas.lay(box, cirrus, *white)


def _cumulus(cloud: Cloud, rng: Generator) -> Field:
    """Draw the puffs ``(n, 4)`` of a cumulus: round cores under a skin of smaller billows."""
    towers = np.array((-0.5, 0.0, 0.45)) + rng.uniform(-0.15, 0.15, 3)
    heights = rng.permutation((1.0, rng.uniform(0.55, 0.85), rng.uniform(0.35, 0.65)))
    cores, skin = np.linspace(-0.78, 0.78, 8), np.linspace(-0.95, 0.95, 22) + rng.uniform(-0.06, 0.06, 22)

    def profile(u: Field) -> Field:
        tower = (heights * np.exp(-(((u[:, None] - towers) / 0.3) ** 2))).max(axis=1)
        return np.maximum(tower, 0.3 * (1.0 - u**2))

    u = np.concatenate([cores, skin])
    top = profile(u) * cloud.height
    radius = top * np.concatenate([np.full(8, 0.46), rng.uniform(0.18, 0.30, 22)])
    rise = top * np.concatenate([np.full(8, 0.42), rng.uniform(0.12, 0.85, 22) ** 0.7])
    ahead = np.concatenate([np.zeros(8), rng.uniform(0.1, 0.32, 22)]) * top
    return np.stack([cloud.x + 0.5 * cloud.width * u, cloud.y - rise, radius, ahead], axis=1).astype(np.float32)


def paint_cloud(canvas: Canvas, cloud: Cloud, rng: Generator) -> None:
    """Paint a cumulus: billows lit on the sun's side over a flat, shaded base that melts into the haze."""
    puffs, reach = _cumulus(cloud, rng), 0.25 * cloud.height + 0.02
    left, right = cloud.x - 0.5 * cloud.width - reach, cloud.x + 0.5 * cloud.width + reach
    box = canvas.box(left, cloud.y - 1.2 * cloud.height - 0.02, right, cloud.y + 0.06)
    distance, light = clump(box, puffs, canvas.air.side)
    billow, fine = box.of(canvas.noise["clumps"]), box.of(canvas.noise["fine"])
    floor = cloud.y - box.y
    up = np.clip(floor / cloud.height, 0.0, 1.0)
    distance = np.minimum(distance + 0.03 * cloud.height * billow, floor + 0.05 * cloud.height * billow)
    lean = canvas.air.side * (box.x - cloud.x) / cloud.width
    light = 0.7 * light + 0.55 * up**0.6 + 0.2 * lean - 0.08 + 0.05 * billow
    soft = 0.004 + 0.16 * cloud.height * (1.0 - up) ** 4
    cover = canvas.cover(distance - 0.5 * soft, soft)
    # A photograph shows no brush: the billows shade into one another, and the rim is vapour.
    body = 0.45 * light + 0.45 * up**0.5 + 0.06 * billow + 0.03 * fine
    photo = color(CLOUD.photo) * (0.72 + 0.32 * smoothstep(0.0, 0.9, body)) * canvas.air.sun[0] ** 0.25
    photo = photo + (0.45 - 0.35 * up) * (canvas.air.haze[0] - photo)
    vapour = canvas.cover(distance + 0.05 * cloud.height * (fine - 1.0), soft + 0.05 * cloud.height)
    blend(box.of(canvas.photo), vapour, photo)
    ghibli = np.clip(canvas.tones(CLOUD, light), 0.0, 1.0)
    ghibli = ghibli + 0.35 * (1.0 - up) * (canvas.air.skyline[1] - ghibli)
    blend(box.of(canvas.ghibli), cover, ghibli)


def paint_peak(canvas: Canvas, peak: Peak) -> None:
    """Paint a mountain: a lit and a shaded flank, and snow round the summit."""
    box = canvas.box(0.0, peak.y - 0.02, 1.0, 1.0)
    rough, fine = box.of(canvas.noise["clumps"]), box.of(canvas.noise["fine"])
    across, down = box.x - peak.x, box.y - peak.y
    slope = np.where(across < 0.0, *np.array(peak.slopes, np.float32))
    distance = (down - slope * np.abs(across)) / np.sqrt(1.0 + slope**2) + 0.014 * rough + 0.004 * fine
    ridge = (across + 0.16 * down * rough) * canvas.air.side
    light = 0.26 + 0.5 * smoothstep(-0.012, 0.012, ridge) + 0.10 * rough + 0.05 * fine
    haze = peak.haze * (0.55 + 0.45 * smoothstep(0.0, 0.3, down))
    canvas.surface(box, distance, ROCK, light, fine, haze, 0.8 * LINE)
    white = np.minimum(distance - 0.002, peak.snow - down + 0.035 * rough + 0.015 * fine)
    canvas.surface(box, white, SNOW, light + 0.08, fine, 0.8 * haze)


def paint_water(canvas: Canvas, waterline: float, sun_x: float) -> None:
    """Paint water below ``waterline``: the sky's color, broken reflections, and streaks of sparkle."""
    box, size = canvas.box(0.0, waterline, 1.0, 1.0), canvas.size
    below = np.maximum(box.y - np.float32(waterline), 0.0)
    ripple = box.of(canvas.noise["ripples"])
    rows = np.clip(np.round((waterline - below) * size - 0.5), 0, size - 1).astype(int)
    cols = np.clip(np.round((box.x + 0.05 * below**0.5 * ripple) * size - 0.5), 0, size - 1).astype(int)
    near = smoothstep(0.0, 0.45, below)
    pictures = []
    for picture, water, sky, zenith, keep in zip(
        (canvas.photo, canvas.ghibli), WATER, canvas.air.skyline, canvas.air.zenith, (0.68, 0.42), strict=True
    ):
        deep = 0.6 * water + 0.4 * zenith + 0.3 * (1.0 - near) * (sky - water)
        pictures.append(deep + (keep - 0.3 * near) * (picture[:, rows, cols] - deep))
    pictures[0] *= 1.0 + 0.09 * ripple
    distance = box.y - np.float32(waterline)
    canvas.lay(box, canvas.cover(distance), *pictures)
    glitter = np.exp(-(((box.x - sun_x) / 0.16) ** 2))
    sparkle = canvas.cover(distance) * smoothstep(1.9, 2.3, ripple + 0.9 * glitter - 0.3 * near)
    canvas.lay(box, 0.75 * sparkle, 0.9 * canvas.air.sun[0], np.minimum(canvas.air.sun[1], 1.0))


def paint_hill(canvas: Canvas, hill: Hill, grass: Material, leaves: Material, rng: Generator) -> None:
    """Paint one layer of ground: grass or forest, its path, and the things that stand on it."""
    box = canvas.box(0.0, hill.base - 0.12 - hill.forest)
    crest = hill.crest(box.x)
    near = 1.0 - hill.haze
    blades = box.of(canvas.noise["blades"])
    fine, soft = box.of(canvas.noise["fine"]), box.of(canvas.noise["soft"])
    depth = box.y - crest
    distance = depth + 0.004 * near * blades
    slope = np.gradient(crest[0])[None] * canvas.size
    light = 0.56 + 0.13 * soft - 0.5 * canvas.air.side * slope + 0.16 * np.exp(-np.abs(depth) / 0.03)
    light = light + 0.07 * near * blades
    grain = 0.4 * fine + 0.8 * near * box.of(canvas.noise["stalks"]) + 0.3 * soft
    canvas.surface(box, distance, grass, light, grain, hill.haze, LINE * (0.4 + 0.6 * near))
    if hill.forest:
        paint_forest(canvas, hill, leaves, rng)
    for field in hill.fields:
        paint_field(canvas, hill, field)
    if hill.flower is not None:
        paint_flowers(canvas, hill, FLOWERS[hill.flower], rng)
    if hill.path:
        paint_path(canvas, hill)
    paint_wires(canvas, [thing for thing in hill.things if thing.kind == "pole"], hill.haze)


def paint_forest(canvas: Canvas, hill: Hill, leaves: Material, rng: Generator) -> None:
    """Paint two rows of crowns along the crest of a hill, the nearer one in front."""
    number = math.ceil(1.0 / hill.forest)
    for row in (0.0, 0.7):
        x = (np.arange(number) + rng.uniform(-0.3, 0.3, number)) / (number - 1)
        radius = hill.forest * rng.uniform(0.55, 1.0, number)
        y = hill.crest(x) + (row - 0.3) * hill.forest
        puffs = np.stack([x, y, radius, rng.uniform(0.0, 0.5, number) * radius], axis=1).astype(np.float32)
        box = canvas.box(0.0, float((y - radius).min()) - 0.02, 1.0, float(y.max()) + hill.forest)
        distance, light = clump(box, puffs, canvas.air.side)
        fine = box.of(canvas.noise["fine"])
        canvas.surface(box, distance + 0.002 * fine, leaves, light - 0.04, fine, hill.haze, 0.5 * LINE)


def paint_path(canvas: Canvas, hill: Hill) -> None:
    """Paint a path that winds from the crest down to the bottom, wider as it comes near."""
    far_x, near_x, sway, width = hill.path
    top = float(hill.crest(np.float32(far_x)))
    box = canvas.box(0.0, top)
    along = np.clip((box.y - top) / (1.0 - top), 0.0, 1.0)
    middle = far_x + (near_x - far_x) * along + sway * np.sin(8.0 * np.sqrt(along)) * (0.3 + along)
    half = 0.5 * width * (0.05 + along**1.3)
    ragged = 0.035 * half * box.of(canvas.noise["blades"])
    distance = np.minimum(half - np.abs(box.x - middle) + ragged, box.y - hill.crest(box.x))
    light = 0.6 + 0.12 * box.of(canvas.noise["soft"]) - 0.25 * (box.x - middle) / half * canvas.air.side
    canvas.surface(box, distance, PATH, light, box.of(canvas.noise["fine"]), hill.haze, 0.7 * LINE)


def paint_field(canvas: Canvas, hill: Hill, field: tuple[float, float, float]) -> None:
    """Paint a tilled field on the slope of a hill: a slanting patch with furrows."""
    left, width, choice = field
    top = hill.base + 0.015
    box = canvas.box(left - 0.2, top - 0.02, left + width + 0.2, top + 0.07)
    lean = 0.8 * (left + 0.5 * width - 0.5)
    corners = [(left, top), (left + width, top), (left + width * 1.15 + lean * 0.1, top + 0.055)]
    patch = polygon(box, [*corners, (left - width * 0.15 + lean * 0.1, top + 0.055)])
    distance = np.minimum(patch, box.y - hill.crest(box.x) - 0.006)
    furrow = np.sin((box.x - left - lean * (box.y - top)) / width * 50.0)
    light = 0.56 + 0.12 * furrow
    canvas.surface(box, distance, CROPS[int(choice * len(CROPS))], light, furrow, hill.haze, 0.5 * LINE)


def paint_flowers(canvas: Canvas, hill: Hill, petals: tuple[float, float, float], rng: Generator) -> None:
    """Strew flowers in drifts over a hill, one in each of the chosen cells of a lattice."""
    cells = 46
    middle, radius = rng.uniform(0.22, 0.78, (2, cells, cells)), rng.uniform(0.10, 0.22, (cells, cells))
    chance = rng.random((cells, cells))
    box = canvas.box(0.0, hill.base - 0.1)
    rows, cols = (np.minimum((axis * cells).astype(int), cells - 1) for axis in (box.y, box.x))
    away = np.hypot(box.x * cells - cols - middle[0, rows, cols], box.y * cells - rows - middle[1, rows, cols])
    drift = smoothstep(0.0, 0.3, box.y - hill.crest(box.x)) * (0.45 + 0.3 * box.of(canvas.noise["soft"]))
    cover = canvas.cover((radius[rows, cols] - away) / cells) * (chance[rows, cols] < drift)
    bright = color(petals)
    canvas.lay(box, cover.astype(np.float32), (0.2 + 0.4 * bright) * canvas.air.sun[0], bright * canvas.air.sun[1])
