"""Pareto plots: a metric against a cost, and the methods that no other one beats in both."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_ghibli.reports.tables import arrow, direction, label
from lit_ghibli.reports.templates import render

_TEMPLATE = Path(__file__).parent / "templates" / "pareto.svg.j2"  # the style sheet of its page decides the colors
_COLORS = 8  # classes c0 ... c7 of the page
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


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether each point is on the front: no other one is lower in one number without being higher in the other.

    Equal points are on it together.

    Args:
        points: Two numbers each, of which lower is better.
    """
    on_front = [False] * len(points)
    lowest = math.inf  # second number of all points whose first is smaller than the current ones'
    order = sorted(range(len(points)), key=lambda index: points[index])
    position = 0
    while position < len(order):
        first, second = points[order[position]]
        for index in order[position:]:
            if points[index][0] != first:
                break
            on_front[index] = points[index][1] == second < lowest
            position += 1
        lowest = min(lowest, second)
    return on_front


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
    on_front = pareto_front([(point.cost, -direction(quality) * point.quality) for point in points])
    spots = [(across.place(point.cost), up.place(point.quality)) for point in points]
    return render(
        _TEMPLATE,
        width=_WIDTH,
        height=_HEIGHT,
        colors=_COLORS,
        across=across,
        up=up,
        cost=label(cost),
        quality=label(quality),
        arrow=arrow(quality),
        front=sorted(spot for spot, kept in zip(spots, on_front, strict=True) if kept),
        marks=list(zip(points, on_front, spots, _place_labels(points, spots), strict=True)),
    )


@dataclass(frozen=True)
class _Axis:
    """Values on pixels from ``start`` to ``end``, whose first and last tick lie there."""

    start: float
    end: float
    ticks: tuple[float, ...]

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float) -> "_Axis":
        """Ticks at round numbers: at 1, 2, 2.5, 5 or 10 times a power of ten from one to the next."""
        low, high = min(values), max(values)
        if low == high:
            low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
        rough = (high - low) / 4
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * times for times in (1, 2, 2.5, 5, 10) if power * times >= rough * (1 - 1e-9))
        first, last = math.floor(low / step), math.ceil(high / step)
        return cls(start, end, tuple(number * step for number in range(first, last + 1)))

    def place(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def _place_labels(points: Sequence[Point], spots: Sequence[tuple[float, float]]) -> list[tuple[float, float, str, str]]:
    """Where each label begins or ends, which of both, and its text, so that none lies upon another."""
    labels: list[tuple[float, float, str, str]] = [(0.0, 0.0, "", "")] * len(points)
    taken: list[tuple[float, float, float]] = []
    for index in sorted(range(len(points)), key=lambda index: spots[index][1]):
        (x, y), name = spots[index], points[index].name
        text = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
        width = _LETTER * len(text)
        leftwards = x + 9 + width > _WIDTH
        left = x - 9 - width if leftwards else x + 9
        height = y + 4
        while any(abs(height - other) < _LINE and left < end and start < left + width for start, end, other in taken):
            height += 1
        taken.append((left, left + width, height))
        labels[index] = (x - 9, height, "end", text) if leftwards else (x + 9, height, "start", text)
    return labels
