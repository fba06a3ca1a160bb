"""Plots as inline SVG, whose colors the style sheet of their page decides."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from lit_ghibli.reports.columns import arrow, direction, label
from lit_ghibli.reports.pareto import pareto_front

COLORS = 8  # classes c0 ... c7 of the page

_WIDTH, _HEIGHT = 380, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 20, 26, 40
_LINE = 14  # pixels between labels that would lie upon each other
_LETTER = 6.8  # pixels, roughly, of a label
_LONGEST = 20  # letters of a label


@dataclass(frozen=True)
class Point:
    """One method in a plot.

    Attributes:
        name: Its name.
        color: Its number among all methods, the same in every plot.
        cost: Lower is better.
        quality: The metric, of the direction that its column has.
    """

    name: str
    color: int
    cost: float
    quality: float


def pareto_plot(points: Sequence[Point], cost: str, quality: str) -> str:
    """Draw a metric against a cost; methods that no other beats in both are filled and joined by a line.

    Args:
        points: The methods, at least one.
        cost: Name of the horizontal axis' column.
        quality: Name of the vertical axis' column.

    Returns:
        One ``svg`` element without outer references.
    """
    across = _Axis.around([0.0, *(point.cost for point in points)], _LEFT, _WIDTH - _RIGHT)
    up = _Axis.around([point.quality for point in points], _HEIGHT - _BOTTOM, _TOP)
    front = pareto_front([(point.cost, -direction(quality) * point.quality) for point in points])
    title = html.escape(f"{label(quality)} against {label(cost)}")
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">']
    parts += [_grid(across, up), _names(label(cost), f"{label(quality)} {arrow(quality)}")]
    kept = sorted((point for point, kept in zip(points, front, strict=True) if kept), key=lambda point: point.cost)
    corners = " ".join(f"{across.place(point.cost):.1f},{up.place(point.quality):.1f}" for point in kept)
    parts.append(f'<polyline class="front" points="{corners}"/>')
    spots = [(across.place(point.cost), up.place(point.quality)) for point in points]
    for point, kept, spot, text in zip(points, front, spots, _spread(points, spots), strict=True):
        parts.append(_mark(point, kept, spot, text))
    return "\n".join([*parts, "</svg>"])


@dataclass(frozen=True)
class _Axis:
    """Values from ``low`` to ``high`` on pixels from ``start`` to ``end``, with ticks at round numbers."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float) -> "_Axis":
        low, high = min(values), max(values)
        if low == high:
            low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
        step = _round_step((high - low) / 4)
        first, last = math.floor(low / step), math.ceil(high / step)
        ticks = tuple(number * step for number in range(first, last + 1))
        return cls(ticks[0], ticks[-1], start, end, ticks)

    def place(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _round_step(rough: float) -> float:
    """The next larger of 1, 2, 2.5, 5 or 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * times for times in (1, 2, 2.5, 5, 10) if power * times >= rough * (1 - 1e-9))


def _grid(across: _Axis, up: _Axis) -> str:
    lines = []
    for tick in across.ticks:
        x = across.place(tick)
        lines.append(f'<line class="grid" x1="{x:.1f}" y1="{up.end}" x2="{x:.1f}" y2="{up.start}"/>')
        lines.append(f'<text class="tick" x="{x:.1f}" y="{up.start + 15}" text-anchor="middle">{tick:.4g}</text>')
    for tick in up.ticks:
        y = up.place(tick)
        lines.append(f'<line class="grid" x1="{across.start}" y1="{y:.1f}" x2="{across.end}" y2="{y:.1f}"/>')
        lines.append(f'<text class="tick" x="{across.start - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    return "\n".join(lines)


def _names(cost: str, quality: str) -> str:
    return (
        f'<text class="axis" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end">{html.escape(cost)}</text>\n'
        f'<text class="axis" x="4" y="13">{html.escape(quality)}</text>'
    )


def _spread(points: Sequence[Point], spots: Sequence[tuple[float, float]]) -> list[tuple[float, float, str]]:
    """Where each label begins or ends, and which, so that none lies upon another."""
    places: list[tuple[float, float, str]] = [(0.0, 0.0, "")] * len(points)
    taken: list[tuple[float, float, float]] = []
    for index in sorted(range(len(points)), key=lambda index: spots[index][1]):
        x, y = spots[index]
        width = _LETTER * min(len(points[index].name), _LONGEST)
        leftwards = x + 9 + width > _WIDTH
        left = x - 9 - width if leftwards else x + 9
        height = y + 4
        while any(
            abs(height - other) < _LINE and left < right and begin < left + width for begin, right, other in taken
        ):
            height += 1
        taken.append((left, left + width, height))
        places[index] = (x - 9 if leftwards else x + 9, height, "end" if leftwards else "start")
    return places


def _mark(point: Point, on_front: bool, spot: tuple[float, float], text: tuple[float, float, str]) -> str:
    name = html.escape(point.name)
    short = html.escape(point.name if len(point.name) <= _LONGEST else f"{point.name[: _LONGEST - 1]}\u2026")
    kind = f"c{point.color % COLORS}{' on-front' * on_front}"
    return (
        f'<g class="{kind}" data-name="{name}"><title>{name}: {point.cost:.4g}, {point.quality:.4g}</title>'
        f'<circle cx="{spot[0]:.1f}" cy="{spot[1]:.1f}" r="5"/>'
        f'<text x="{text[0]:.1f}" y="{text[1]:.1f}" text-anchor="{text[2]}">{short}</text></g>'
    )
