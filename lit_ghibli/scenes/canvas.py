"""Drawing primitives of the synthetic scenes: shapes, noise, light, and two canvases painted together.

Coordinates are in units of the picture's side (x to the right, y downwards, 0 to 1), so that a shape is
the same at every resolution. Arrays are float32, channels first while painting. A shape is a field of
signed distances in those units, positive inside.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

# Ghibli outlines are darkened paint, not black: what the line multiplies red, green and blue by.
INK = np.array([0.30, 0.27, 0.36], np.float32)[:, None, None]


class Material(NamedTuple):
    """Colors of one substance: one for the photograph, and the painter's shade, middle and lit tones."""

    photo: tuple[float, float, float]
    tones: tuple[tuple[float, float, float], ...]
    roughness: float = 0.3


class Atmosphere(NamedTuple):
    """Colors of the light at one time of day, each ``(3, 1, 1)``, in pairs of photo and ghibli."""

    sun: tuple[Field, Field]
    shade: tuple[Field, Field]
    haze: tuple[Field, Field]
    zenith: tuple[Field, Field]
    skyline: tuple[Field, Field]
    side: float  # where the sun stands: -1 left, 1 right


class Box(NamedTuple):
    """A rectangle of pixels and the coordinates of their centres, ``x`` ``(1, w)`` and ``y`` ``(h, 1)``."""

    rows: slice
    cols: slice
    x: Field
    y: Field

    def of(self, field: Field) -> Field:
        """Cut this rectangle out of a field of the whole picture."""
        return field[..., self.rows, self.cols]


def color(rgb: tuple[float, ...]) -> Field:
    """Shape an RGB triple ``(3, 1, 1)``, to be broadcast over pixels."""
    return np.asarray(rgb, np.float32)[:, None, None]


def blend(under: Field, alpha: Field, paint: Field) -> None:
    """Lay paint with opacity ``alpha`` over ``under``, in place."""
    under += alpha * (paint - under)


def smoothstep(low: float, high: float, field: Field) -> Field:
    """Rise smoothly from 0 at ``low`` to 1 at ``high``."""
    t = np.clip((field - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


@lru_cache(maxsize=128)
def _spline(size: int, cells: int) -> Field:
    """Cubic B-spline weights ``(size, cells + 3)`` that interpolate a lattice at the pixel centres."""
    position = (np.arange(size, dtype=np.float64) + 0.5) / size * cells
    distance = np.abs(position[:, None] + 1.0 - np.arange(cells + 3))
    near, far = 2 / 3 - distance**2 + distance**3 / 2, (2 - distance) ** 3 / 6
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0)).astype(np.float32)


def noise(rng: np.random.Generator, size: int, across: int, down: int, octaves: int = 3) -> Field:
    """Draw fractal noise ``(size, size)`` of about zero mean and unit deviation.

    The lattice of every octave is drawn whatever the size, and left out of the sum where pixels could
    not resolve it, so that pictures of all sizes show the same field.
    """
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        columns, rows = across << octave, down << octave
        lattice = rng.random((rows + 3, columns + 3), np.float32) - np.float32(0.5)
        if max(columns, rows) <= size:
            total += 0.6**octave * (_spline(size, rows) @ lattice @ _spline(size, columns).T)
    return total * np.float32(6.0)


def polygon(box: Box, points: list[tuple[float, float]]) -> Field:
    """Signed distance to a convex polygon (exact near its edges, which is where it matters)."""
    corners = np.asarray(points, np.float32)
    steps = np.roll(corners, -1, axis=0) - corners
    area = np.sum(corners[:, 0] * np.roll(corners[:, 1], -1) - corners[:, 1] * np.roll(corners[:, 0], -1))
    steps /= np.hypot(steps[:, 0], steps[:, 1])[:, None] * np.sign(area)
    distance = None
    for (x, y), (dx, dy) in zip(corners, steps, strict=True):
        edge = dx * (box.y - y) - dy * (box.x - x)
        distance = edge if distance is None else np.minimum(distance, edge)
    return distance


def clump(box: Box, puffs: Field, side: float) -> tuple[Field, Field]:
    """Union of spheres, as of a cumulus or a tree's crown, lit from above on the sun's side.

    Args:
        box: where to draw.
        puffs: ``(n, 4)``: x, y and radius of each sphere, and how far it stands out towards the viewer.
        side: -1 for a sun on the left, 1 on the right.

    Returns:
        The signed distance ``(h, w)`` and the light in about [0, 1] ``(h, w)``.
    """
    x, y, radius, ahead = (puffs[:, i, None, None] for i in range(4))
    across, down = (box.x - x) / radius, (box.y - y) / radius
    squared = across**2 + down**2
    distance = (radius * (1.0 - np.sqrt(squared))).max(axis=0)
    bulge = radius * np.sqrt(np.maximum(1.0 - squared, 0.0))
    front = np.where(squared < 1.0, ahead + bulge, ahead - 1.0 - squared).argmax(axis=0)[None]
    seen = np.clip(np.take_along_axis(squared, front, 0)[0], 0.0, 1.0)
    rows, cols = np.arange(squared.shape[1])[:, None], np.arange(squared.shape[2])
    across, down = across[front[0], 0, cols], down[front[0], rows, 0]
    light = 0.42 + 0.34 * (0.7 * side * across - down) + 0.18 * np.sqrt(1.0 - seen)
    return distance, light.astype(np.float32)


class Canvas:
    """A photograph and its painted partner, always painted through the same shapes.

    Args:
        size: side of the pictures in pixels.
        air: light and haze of the scene.
        textures: the noise fields ``(size, size)`` that all materials share, by name.
    """

    def __init__(self, size: int, air: Atmosphere, textures: dict[str, Field]) -> None:
        self.size, self.air, self.noise = size, air, textures
        self.photo = np.zeros((3, size, size), np.float32)
        self.ghibli = np.zeros((3, size, size), np.float32)
        self.centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)

    def box(self, left: float = 0.0, top: float = 0.0, right: float = 1.0, bottom: float = 1.0) -> Box:
        """Find the pixels of a rectangle, with a margin of one pixel, within the picture."""
        low = [int(np.clip(np.floor(v * self.size) - 1, 0, self.size)) for v in (left, top)]
        high = [int(np.clip(np.ceil(v * self.size) + 1, 0, self.size)) for v in (right, bottom)]
        cols, rows = (slice(a, max(a, b)) for a, b in zip(low, high, strict=True))
        return Box(rows, cols, self.centres[None, cols], self.centres[rows, None])

    def cover(self, distance: Field, soft: float | Field = 0.0) -> Field:
        """Fraction of each pixel inside a shape; ``soft`` widens the edge beyond one pixel."""
        return np.clip(distance / (soft + np.float32(1.0 / self.size)) + 0.5, 0.0, 1.0)

    def lay(self, box: Box, alpha: Field, photo: Field, ghibli: Field) -> None:
        """Lay one color, or one picture of the box, over each canvas with opacity ``alpha``."""
        blend(box.of(self.photo), alpha, photo)
        blend(box.of(self.ghibli), alpha, ghibli)

    def outline(self, box: Box, distance: Field, width: float, strength: float = 1.0) -> None:
        """Ink the inner rim of a shape on the ghibli canvas."""
        line = self.cover(distance) - self.cover(distance - np.float32(width))
        box.of(self.ghibli)[...] *= 1.0 - np.float32(strength) * line * (1.0 - INK)

    def surface(
        self,
        box: Box,
        distance: Field,
        material: Material,
        light: float | Field,
        grain: float | Field = 0.0,
        haze: float | Field = 0.0,
        line: float = 0.0,
    ) -> None:
        """Paint a lit shape on both canvases.

        Args:
            box: the pixels to paint.
            distance: signed distance to the shape, in picture sides.
            material: its colors.
            light: 0 in full shade to 1 in full sun.
            grain: unit noise, which roughens the photograph only.
            haze: 0 near to 1 lost in the air.
            line: width of the ink outline, in picture sides.
        """
        light = np.asarray(light, np.float32)
        lit = np.clip(light, 0.0, 1.0)
        glow = self.air.shade[0] + (self.air.sun[0] - self.air.shade[0]) * lit
        photo = color(material.photo) * glow * (1.0 + material.roughness * grain)
        ghibli = self.tones(material, light)
        haze = np.asarray(haze, np.float32)
        photo = photo + haze * (self.air.haze[0] - photo)
        ghibli = ghibli + 0.8 * haze * (self.air.haze[1] - ghibli)
        self.lay(box, self.cover(distance), photo, ghibli)
        if line:
            self.outline(box, distance, line, 0.85 * (1.0 - float(haze.mean())))

    def tones(self, material: Material, light: Field) -> Field:
        """Quantise the light into the painter's three tones, with a brush-soft step between them."""
        shade, middle, lit = (color(tone) for tone in material.tones)
        shade, lit = shade * self.air.shade[1], lit * self.air.sun[1]
        middle = middle * (0.5 * self.air.shade[1] + 0.5 * self.air.sun[1])
        paint = shade + (middle - shade) * smoothstep(0.32, 0.42, light)
        return paint + (lit - middle) * smoothstep(0.62, 0.72, light)
