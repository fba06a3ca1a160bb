"""The embedded data set: procedural landscapes, each as a photograph and as its painted partner.

A scene is drawn once from a seeded generator, as a `Scene`, and painted on two canvases through the same
shapes, so that the two pictures are true partners pixel by pixel.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lit_ghibli.scenes.canvas import Canvas, Field, color, noise
from lit_ghibli.scenes.landmarks import Thing, paint_boat, paint_thing
from lit_ghibli.scenes.landscape import Cloud, Hill, Peak, paint_cloud, paint_hill, paint_peak, paint_sky, paint_water
from lit_ghibli.scenes.palette import FLOWERS, GRASS, LEAVES, atmosphere

LAYOUTS = ("meadow", "village", "mountain", "lake", "sea")
SEASONS = ("spring", "summer", "summer", "autumn")
KINDS = {
    "meadow": ("tree",) * 4 + ("house",),
    "village": ("house",) * 5 + ("tree",) * 3,
    "mountain": ("pine",) * 6 + ("house",),
    "lake": ("tree", "pine", "pine"),
    "sea": ("tree", "house", "lighthouse"),
}
HEIGHTS = {"tree": 1.0, "pine": 0.95, "house": 0.42, "lighthouse": 1.1}  # relative to a tree's
NEAR = 0.05  # haze of the ground at the viewer's feet


@dataclass(frozen=True)
class Scene:
    """All that the two pictures have in common."""

    layout: str
    season: str
    hour: float  # 0 at noon to 1 at sunset
    side: float  # the sun's: -1 left, 1 right
    sun: tuple[float, float]
    horizon: float
    clouds: tuple[Cloud, ...]
    peaks: tuple[Peak, ...]
    hills: tuple[Hill, ...]  # far to near
    waterline: float | None  # where the water before the farthest hill begins, if there is any
    boats: tuple[Thing, ...]


def render_pair(seed: int, index: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Render scene ``index`` of the data set ``seed`` as a photograph and as a painting.

    The same arguments give the same pixels on every call; the composition does not depend on ``size``.
    Another release of NumPy may draw other scenes, as its generators promise no stream for ever.

    Args:
        seed: which data set, at least 0.
        index: which scene of it, at least 0.
        size: side of the pictures in pixels, 32 to 512.

    Returns:
        Photo and ghibli, aligned pixel by pixel, each ``uint8`` RGB ``(size, size, 3)``.

    Raises:
        ValueError: if an argument is outside its range.
    """
    for name, value in (("seed", seed), ("index", index)):
        if value < 0:
            raise ValueError(f"{name}={value}: a synthetic scene needs {name} >= 0")
    if not 32 <= size <= 512:
        raise ValueError(f"size={size}: synthetic scenes are rendered with a side of 32 to 512 pixels")
    rng = np.random.default_rng([seed, index])
    scene = describe(rng)
    canvas = Canvas(size, atmosphere(scene.hour, scene.side), textures(rng, size))
    paint(canvas, scene, rng)
    return _to_uint8(develop(canvas, rng)), _to_uint8(canvas.ghibli)


def textures(rng: Generator, size: int) -> dict[str, Field]:
    """Draw the noise fields that all materials of a scene share, each ``(size, size)``."""
    cells = {
        "soft": (3, 5, 3),
        "clumps": (14, 14, 3),
        "fine": (40, 40, 4),
        "blades": (72, 20, 2),
        "stalks": (110, 56, 3),
        "veils": (2, 8, 4),
        "ripples": (9, 60, 2),
    }
    return {name: noise(rng, size, *shape) for name, shape in cells.items()}


def paint(canvas: Canvas, scene: Scene, rng: Generator) -> None:
    """Paint a scene from back to front."""
    paint_sky(canvas, scene.horizon, scene.sun, scene.hour)
    for cloud in scene.clouds:
        paint_cloud(canvas, cloud, rng)
    for peak in scene.peaks:
        paint_peak(canvas, peak)
    leaves = LEAVES[scene.season]
    for number, hill in enumerate(scene.hills):
        if number == 1 and scene.waterline is not None:
            paint_water(canvas, scene.waterline, scene.sun[0])
            for boat in scene.boats:
                paint_boat(canvas, boat)
        paint_hill(canvas, hill, GRASS[scene.season], leaves[0], rng)
        for thing in sorted(hill.things, key=lambda thing: thing.y):
            paint_thing(canvas, thing, leaves, hill.haze, scene.hour, rng)


def develop(canvas: Canvas, rng: Generator) -> Field:
    """Turn the painted photograph ``(3, size, size)`` into a camera's: blur, vignette, cast, pale colors, grain."""
    padded = np.pad(canvas.photo, ((0, 0), (1, 1), (1, 1)), mode="edge")
    across = 0.8 * padded[:, :, 1:-1] + 0.1 * (padded[:, :, :-2] + padded[:, :, 2:])
    photo = 0.8 * across[:, 1:-1] + 0.1 * (across[:, :-2] + across[:, 2:])
    offset = canvas.centres - np.float32(0.5)
    vignette = 1.0 - 0.36 * (offset**2 + offset[:, None] ** 2)
    exposure, cast = rng.uniform(0.9, 1.06), rng.uniform(0.97, 1.03, 3)
    photo *= vignette * color(tuple(exposure * cast))
    photo = 0.88 * photo + 0.12 * photo.mean(axis=0)
    brightness = rng.standard_normal((1, canvas.size, canvas.size), np.float32)
    tint = rng.standard_normal(photo.shape, np.float32)
    return photo + 0.010 * brightness + 0.005 * tint


def _to_uint8(picture: Field) -> NDArray[np.uint8]:
    levels = np.rint(np.clip(picture, 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 0))


def describe(rng: Generator) -> Scene:
    """Draw the description of a scene."""
    layout = LAYOUTS[rng.integers(len(LAYOUTS))]
    season = SEASONS[rng.integers(len(SEASONS))]
    earliest, latest = ((0.0, 0.25), (0.4, 0.7), (0.85, 1.0))[rng.choice(3, p=(0.65, 0.2, 0.15))]
    hour = rng.uniform(earliest, latest)
    side = float(rng.choice((-1.0, 1.0)))
    horizon = rng.uniform(0.42, 0.58)
    height = rng.uniform(0.3, 0.6) * (1.0 - hour) + 0.86 * hour
    wet = layout in ("lake", "sea")
    return Scene(
        layout=layout,
        season=season,
        hour=hour,
        side=side,
        sun=(0.5 + side * rng.uniform(0.12, 0.4), horizon * height),
        horizon=horizon,
        clouds=describe_clouds(rng, horizon),
        peaks=describe_peaks(rng, layout, horizon),
        hills=describe_hills(rng, layout, horizon),
        waterline=horizon + 0.03 * (layout == "lake") if wet else None,
        boats=describe_boats(rng, horizon) if wet else (),
    )


def describe_boats(rng: Generator, horizon: float) -> tuple[Thing, ...]:
    """Draw up to two boats, larger as they come nearer."""
    away = rng.uniform(0.04, 0.11, rng.integers(0, 3))
    return tuple(Thing("boat", rng.uniform(0.1, 0.9), horizon + down, 0.03 + 0.7 * down, 0.0) for down in away)


def describe_clouds(rng: Generator, horizon: float) -> tuple[Cloud, ...]:
    """Draw a row of small clouds low in the sky, and up to three large ones above it."""
    clouds = []
    for _ in range(rng.integers(1, 6)):
        width = rng.uniform(0.12, 0.3)
        low = horizon * rng.uniform(0.72, 0.95)
        clouds.append(Cloud(rng.uniform(0.0, 1.0), low, width, width * rng.uniform(0.25, 0.4)))
    for _ in range(rng.integers(0, 4)):
        width = rng.uniform(0.3, 0.75)
        low = horizon * rng.uniform(0.45, 0.85)
        clouds.append(Cloud(rng.uniform(0.0, 1.0), low, width, width * rng.uniform(0.35, 0.55)))
    return tuple(clouds)


def describe_peaks(rng: Generator, layout: str, horizon: float) -> tuple[Peak, ...]:
    """Draw mountains, the far ones first."""
    number = {"mountain": 5, "lake": 4, "sea": 0}.get(layout, int(rng.integers(0, 4)))
    height, nearest = (0.36, 0.35) if layout == "mountain" else (0.2, 0.5)
    snow = rng.uniform(0.05, 0.16)
    return tuple(
        Peak(
            x=rng.uniform(0.0, 1.0),
            y=horizon - height * rng.uniform(0.4, 1.0) + 0.02,
            slopes=(rng.uniform(0.5, 1.1), rng.uniform(0.5, 1.1)),
            snow=snow,
            haze=haze,
        )
        for haze in np.linspace(0.72, nearest, number).tolist()
    )


def describe_hills(rng: Generator, layout: str, horizon: float) -> tuple[Hill, ...]:
    """Draw the layers of ground, the far ones first."""
    if layout in ("lake", "sea"):
        bases = (horizon + 0.02 * (layout == "lake"), rng.uniform(0.73, 0.84))
        hazes = (0.4 if layout == "lake" else 0.6, NEAR)
    else:
        bases = tuple(horizon + np.array((0.0, 0.08, 0.26)) + rng.uniform(-0.02, 0.03, 3))
        hazes = (0.45, 0.22, NEAR)
    return tuple(describe_hill(rng, layout, float(base), haze) for base, haze in zip(bases, hazes, strict=True))


def describe_hill(rng: Generator, layout: str, base: float, haze: float) -> Hill:
    """Draw one layer of ground and what stands on it: woods far away, things and a path nearby."""
    waves = tuple(
        (a * (1.5 - haze) * rng.uniform(0.3, 1.0), f * rng.uniform(0.7, 1.4), rng.uniform(0.0, 2.0 * math.pi))
        for a, f in ((0.03, 4.0), (0.012, 9.0))
    )
    hill = Hill(base, waves, haze)
    if haze > 0.3:
        wooded = rng.random() < 0.75
        return hill._replace(forest=rng.uniform(0.02, 0.04) * (1.0 - haze) if wooded else 0.0)
    if haze > NEAR:
        number = 0 if layout == "mountain" else rng.integers(0, 4)
        fields = tuple((rng.uniform(0.0, 0.85), rng.uniform(0.1, 0.3), rng.random()) for _ in range(number))
        return hill._replace(fields=fields, things=describe_things(rng, layout, hill, rng.integers(4, 8), 0.12))
    path = (rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.8), rng.uniform(-0.16, 0.16), rng.uniform(0.18, 0.32))
    things = describe_things(rng, layout, hill, rng.integers(2, 5), 0.30)
    return hill._replace(
        path=path if rng.random() < 0.75 else None,
        flower=int(rng.integers(len(FLOWERS))) if rng.random() < 0.6 else None,
        things=things + (describe_poles(rng, hill) if rng.random() < 0.2 else ()) + describe_frame(rng, layout),
    )


def describe_things(rng: Generator, layout: str, hill: Hill, number: int, scale: float) -> tuple[Thing, ...]:
    """Draw what stands on one hill, each thing in its own eighth of the width, a little below the crest."""
    things: list[Thing] = []
    for place in rng.permutation(8)[:number]:
        kind = KINDS[layout][rng.integers(len(KINDS[layout]))]
        if kind == "lighthouse" and any(thing.kind == kind for thing in things):
            kind = "tree"
        x = float(place + rng.uniform(0.2, 0.8)) / 8.0
        y = float(hill.crest(np.float32(x))) + rng.uniform(0.03, 0.33) * scale
        things.append(Thing(kind, x, y, scale * HEIGHTS[kind] * rng.uniform(0.75, 1.2), rng.random()))
    return tuple(things)


def describe_poles(rng: Generator, hill: Hill) -> tuple[Thing, ...]:
    """Draw a row of telegraph poles across a hill."""
    places = rng.uniform(0.0, 0.2) + np.arange(4) * rng.uniform(0.2, 0.34)
    return tuple(
        Thing("pole", x, float(hill.crest(np.float32(x))) + 0.06, rng.uniform(0.36, 0.4), 0.0) for x in places.tolist()
    )


def describe_frame(rng: Generator, layout: str) -> tuple[Thing, ...]:
    """Draw, in a third of the scenes, one large tree that frames the picture at one side."""
    x, y = 0.5 + rng.choice((-1.0, 1.0)) * rng.uniform(0.32, 0.46), rng.uniform(0.93, 1.02)
    tree = Thing("tree", float(x), y, rng.uniform(0.6, 0.8), rng.random())
    return (tree,) if layout != "mountain" and rng.random() < 0.35 else ()
