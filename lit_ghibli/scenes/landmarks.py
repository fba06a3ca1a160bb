"""What stands in the synthetic scenes: trees, houses, poles, lighthouses and boats."""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from lit_ghibli.scenes.canvas import Canvas, Field, Material, clump, color, polygon, smoothstep
from lit_ghibli.scenes.palette import GLASS, LAMP, NEEDLES, ROOFS, SNOW, TIMBER, TRUNK, WALL

LINE = 0.0065  # width of the outlines of things nearby, in picture sides


class Thing(NamedTuple):
    """Something that stands on the ground: what, where its foot is, its height, and a color choice."""

    kind: str
    x: float
    y: float
    height: float
    choice: float


def paint_thing(
    canvas: Canvas, thing: Thing, leaves: tuple[Material, ...], haze: float, hour: float, rng: Generator
) -> None:
    """Paint a thing of any kind; ``leaves`` are the common and the rarer colors of trees."""
    if thing.kind == "tree":
        paint_tree(canvas, thing, leaves[thing.choice > 0.6], haze, rng)
    elif thing.kind == "house":
        paint_house(canvas, thing, haze, hour)
    else:
        {"pine": paint_pine, "lighthouse": paint_lighthouse, "pole": paint_pole}[thing.kind](canvas, thing, haze)


def paint_wires(canvas: Canvas, poles: list[Thing], haze: float) -> None:
    """Hang two wires between neighbouring poles."""
    poles = sorted(poles, key=lambda pole: pole.x)
    for a, b in pairwise(poles):
        for level in (0.92, 0.82):
            low, high = a.y - level * a.height, b.y - level * b.height
            box = canvas.box(a.x, min(low, high), b.x, max(low, high) + 0.06)
            along = (box.x - a.x) / (b.x - a.x)
            sag = low + (high - low) * along + 0.16 * (b.x - a.x) * along * (1.0 - along)
            inside = np.minimum(along, 1.0 - along)
            distance = np.minimum(0.0016 - np.abs(box.y - sag), inside)
            canvas.surface(box, distance, TRUNK, 0.2, 0.0, haze)


def paint_shadow(canvas: Canvas, x: float, y: float, width: float) -> None:
    """Darken the ground beside a thing, away from the sun."""
    box = canvas.box(x - width, y - 0.3 * width, x + width, y + 0.3 * width)
    round_ = 1.0 - np.hypot((box.x - x) / width, (box.y - y) / (0.2 * width))
    cover = np.clip(0.5 + round_ * 0.2 * width * canvas.size, 0.0, 1.0) * np.clip(round_ * 6.0, 0.0, 1.0)
    box.of(canvas.photo)[...] *= 1.0 - 0.42 * cover
    box.of(canvas.ghibli)[...] *= 1.0 - cover * (1.0 - color((0.52, 0.68, 0.78)))


def paint_tree(canvas: Canvas, tree: Thing, leaves: Material, haze: float, rng: Generator) -> None:
    """Paint a broad-leaved tree: a trunk under a crown of clumps of leaves."""
    x, y, h = tree.x, tree.y, tree.height
    paint_shadow(canvas, x - 0.12 * h * canvas.air.side, y, 0.36 * h)
    box = canvas.box(x - 0.1 * h, y - 0.6 * h, x + 0.1 * h, y)
    trunk = polygon(
        box,
        [(x - 0.055 * h, y), (x - 0.03 * h, y - 0.6 * h), (x + 0.03 * h, y - 0.6 * h), (x + 0.055 * h, y)],
    )
    light = 0.5 + 5.0 * canvas.air.side * (box.x - x) / h - 0.25 * smoothstep(0.25, 0.45, (y - box.y) / h)
    canvas.surface(box, trunk, TRUNK, light, box.of(canvas.noise["blades"]), haze, 0.7 * LINE)
    box = canvas.box(x - 0.56 * h, y - 1.1 * h, x + 0.56 * h, y - 0.2 * h)
    distance, light = clump(box, _crown(x, y - 0.64 * h, h, rng), canvas.air.side)
    fine = box.of(canvas.noise["fine"])
    light = light + 0.09 * fine + 0.45 * ((y - 0.64 * h) - box.y) / h
    canvas.surface(box, distance + min(0.022 * h, 0.007) * fine, leaves, light, fine, haze, LINE)


def _crown(x: float, y: float, height: float, rng: Generator) -> Field:
    """Draw the puffs ``(n, 4)`` of the crown of a tree of a height: one core, and clumps of leaves round it."""
    angle, away = rng.uniform(0.0, 2.0 * math.pi, 19), np.sqrt(rng.uniform(0.1, 1.0, 19))
    squat = rng.uniform(0.85, 1.15)
    across, down = 0.29 * squat * away * np.cos(angle), 0.25 / squat * away * np.sin(angle)
    puffs = np.stack([across, down, rng.uniform(0.09, 0.16, 19), rng.uniform(0.05, 0.2, 19)], axis=1)
    puffs = np.concatenate([[(0.0, 0.0, 0.24, 0.0)], puffs]) * height
    return (puffs + np.array((x, y, 0.0, 0.0))).astype(np.float32)


def paint_pine(canvas: Canvas, tree: Thing, haze: float) -> None:
    """Paint a conifer of hanging tiers."""
    x, y, h = tree.x, tree.y, tree.height
    paint_shadow(canvas, x - 0.06 * h * canvas.air.side, y, 0.2 * h)
    box = canvas.box(x - 0.03 * h, y - 0.2 * h, x + 0.03 * h, y)
    trunk = np.minimum(0.025 * h - np.abs(box.x - x), y - box.y)
    canvas.surface(box, trunk, TRUNK, 0.4, 0.0, haze, 0.5 * LINE)
    box = canvas.box(x - 0.25 * h, y - h, x + 0.25 * h, y - 0.08 * h)
    down = (box.y - (y - h)) / h
    tiers = 5.0 + math.floor(3.0 * tree.choice)
    tier = down * tiers - np.floor(down * tiers)
    fine = box.of(canvas.noise["fine"])
    half = h * 0.21 * down * (0.62 + 0.5 * tier)
    distance = np.minimum(0.75 * (half - np.abs(box.x - x)) + 0.012 * h * fine, y - 0.1 * h - box.y)
    light = 0.5 + 1.6 * canvas.air.side * (box.x - x) / h - 0.30 * (tier - 0.5) + 0.10 * fine
    canvas.surface(box, distance, NEEDLES, light, fine, haze, 0.8 * LINE)


def paint_house(canvas: Canvas, house: Thing, haze: float, hour: float) -> None:
    """Paint a gabled house in three-quarter view, with a door, windows and a chimney."""
    h = house.height
    turn = 1.0 if house.choice % 0.5 < 0.25 else -1.0
    roof = ROOFS[int(house.choice * len(ROOFS))]
    wall = TIMBER if house.choice * 7.0 % 1.0 < 0.25 else WALL
    pane = LAMP if hour > 0.6 else GLASS
    box = canvas.box(house.x - 1.15 * h, house.y - 1.15 * h, house.x + 1.15 * h, house.y + 0.05 * h)
    paint_shadow(canvas, house.x - 0.25 * h * canvas.air.side, house.y - 0.02 * h, 1.05 * h)
    front, flank = (0.72, 0.42) if turn * canvas.air.side < 0 else (0.40, 0.70)
    fine = box.of(canvas.noise["fine"])
    tiles = np.sin((box.y - house.y) / h * 62.0) * 0.6 + fine

    def part(material: Material, light: float | Field, points: str, line: float = 0.6, grain: Field = fine) -> None:
        """Paint a polygon given as 'x,y x,y ...' in house heights from the middle of its foot."""
        pairs = (pair.split(",") for pair in points.split())
        corners = [(house.x + turn * h * float(a), house.y - h * float(b)) for a, b in pairs]
        canvas.surface(box, polygon(box, corners), material, light, grain, haze, line * LINE)

    part(wall, flank, "-0.25,0 -0.25,0.5 0.75,0.5 0.75,0.03")
    part(wall, front, "-0.75,0.02 -0.75,0.5 -0.5,0.92 -0.25,0.5 -0.25,0")
    part(wall, flank - 0.1, "0.32,0.7 0.32,1.08 0.42,1.08 0.42,0.7")
    part(roof, flank + 0.1 + 0.05 * tiles, "-0.53,0.97 -0.2,0.42 0.83,0.44 0.52,0.97", 0.8, tiles)
    part(roof, front - 0.2, "-0.53,0.97 -0.84,0.43 -0.78,0.41 -0.5,0.88")
    part(TIMBER, front - 0.1, "-0.58,0.01 -0.58,0.3 -0.43,0.3 -0.43,0.005", 0.5)
    part(pane, 0.5, "-0.56,0.5 -0.56,0.64 -0.45,0.64 -0.45,0.5", 0.5)
    for left in (-0.1, 0.18, 0.46):
        part(pane, 0.5, f"{left},0.17 {left},0.37 {left + 0.17},0.37 {left + 0.17},0.17", 0.5)


def paint_pole(canvas: Canvas, pole: Thing, haze: float) -> None:
    """Paint a telegraph pole with two crossbars."""
    x, y, h = pole.x, pole.y, pole.height
    box = canvas.box(x - 0.15 * h, y - h, x + 0.15 * h, y)
    post = np.minimum(0.016 * h - np.abs(box.x - x), np.minimum(y - box.y, box.y - (y - h)))
    for level, reach in ((0.92, 0.14), (0.82, 0.11)):
        bar = np.minimum(reach * h - np.abs(box.x - x), 0.014 * h - np.abs(box.y - (y - level * h)))
        post = np.maximum(post, bar)
    light = 0.5 + 14.0 * canvas.air.side * (box.x - x) / h
    canvas.surface(box, post, TRUNK, light, 0.0, haze, 0.4 * LINE)


def paint_lighthouse(canvas: Canvas, tower: Thing, haze: float) -> None:
    """Paint a white lighthouse with a red band and a red cap."""
    x, y, h = tower.x, tower.y, tower.height
    paint_shadow(canvas, x - 0.1 * h * canvas.air.side, y, 0.25 * h)
    box = canvas.box(x - 0.2 * h, y - 1.02 * h, x + 0.2 * h, y)
    light = 0.52 + 2.2 * canvas.air.side * (box.x - x) / h
    grain = box.of(canvas.noise["fine"])
    for material, low, high, below, above in (
        (WALL, 0.0, 0.8, 0.13, 0.085),
        (ROOFS[0], 0.28, 0.5, 0.115, 0.101),
        (ROOFS[0], 0.78, 0.81, 0.12, 0.12),
        (LAMP, 0.81, 0.91, 0.07, 0.07),
        (ROOFS[0], 0.91, 1.0, 0.1, 0.005),
    ):
        corners = [(-below, low), (-above, high), (above, high), (below, low)]
        shape = polygon(box, [(x + h * a, y - h * b) for a, b in corners])
        canvas.surface(box, shape, material, light, grain, haze, 0.6 * LINE)


def paint_boat(canvas: Canvas, boat: Thing) -> None:
    """Paint a small boat under white sails."""
    x, y, h = boat.x, boat.y, boat.height
    box = canvas.box(x - 0.6 * h, y - 1.1 * h, x + 0.6 * h, y + 0.2 * h)
    paint_shadow(canvas, x, y + 0.04 * h, 0.5 * h)
    sails = [[(-0.04, 0.12), (-0.04, 1.0), (-0.42, 0.18)], [(0.02, 0.12), (0.02, 0.85), (0.34, 0.14)]]
    for points, light in zip(sails, (0.8, 0.55), strict=True):
        sail = polygon(box, [(x + h * a, y - h * b) for a, b in points])
        canvas.surface(box, sail, SNOW, light, 0.0, 0.1, 0.5 * LINE)
    hull = polygon(box, [(x + h * a, y - h * b) for a, b in ((-0.45, 0.1), (0.45, 0.1), (0.3, -0.06), (-0.3, -0.06))])
    canvas.surface(box, hull, ROOFS[0], 0.5, 0.0, 0.1, 0.5 * LINE)
