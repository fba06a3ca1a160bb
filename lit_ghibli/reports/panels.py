"""Panels on which the values of one metric lie beside the levels of one factor."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from lit_ghibli.reports.effects import Effect
from lit_ghibli.reports.figure_look import ACCENT, SOFT, WARN, as_numbers
from lit_ghibli.reports.tables import Row, is_number

_WIDE = 20  # ratio of the largest to the smallest value beyond which an axis is logarithmic
_FENCE = 3.0  # interquartile ranges beyond the quartiles where a value is an outlier
_MOST_OUTLIERS = 1 / 8  # of the values; more of them are no outliers


@dataclass(frozen=True)
class Scale:
    """The axis of a metric from ``low`` to ``high``: all values, but for a few outliers."""

    low: float
    high: float
    logarithmic: bool

    @classmethod
    def of(cls, rows: Sequence[Row], metric: str, effects: Iterable[Effect], reference: float | None) -> "Scale":
        """An axis for all values of a metric, and for the means and errors of its effects."""
        values = [row[metric] for row in rows if is_number(row.get(metric))]
        ends = [
            effect.mean + sign * (effect.error or 0.0)
            for effect in effects
            for sign in (-1, 1)
            if effect.mean is not None
        ]
        return cls.around(values, ends, reference)

    @classmethod
    def around(cls, values: Sequence[float], ends: Sequence[float] = (), reference: float | None = None) -> "Scale":
        """An axis for ``values`` but for outliers, for ``ends`` where there are none, and for a reference that is near.

        It is logarithmic for positive values that span much and crowd at its lower end.
        """
        if not values:
            return cls(0.0, 1.0, False)
        steep = min(values) > 0 and max(values) > max(_WIDE * min(values), 4 * float(np.median(values)))
        unit, back = (math.log, math.exp) if steep else (float, float)
        floor, ceiling = _fences([unit(value) for value in values])
        inside = [place for place in map(unit, values) if floor <= place <= ceiling]
        if len(inside) == len(values):
            inside += [unit(end) for end in ends if end > 0 or not steep]
        low, high = min(inside), max(inside)
        if reference is not None and (reference > 0 or not steep):
            place, span = unit(reference), high - low
            if low - 1.5 * span <= place <= high + 1.5 * span:
                low, high = min(low, place), max(high, place)
        logarithmic = steep and high - low > math.log(_WIDE)
        if not logarithmic:
            low, high = back(low), back(high)
        same = high - low <= 1e-9 * max(abs(low), abs(high))  # but for rounding in the means
        margin = (abs(low) or 1) / 2 if same else 0.08 * (high - low)
        low, high = low - margin, high + margin
        return cls(back(low), back(high), True) if logarithmic else cls(low, high, False)

    def hides(self, value: float) -> bool:
        """Whether a value lies beyond the axis."""
        return not self.low <= value <= self.high


def _fences(values: Sequence[float]) -> tuple[float, float]:
    """Beyond which values are outliers; infinite where there are none, or too many to be called so."""
    lower, upper = np.percentile(values, [25, 75])
    floor, ceiling = lower - _FENCE * (upper - lower), upper + _FENCE * (upper - lower)
    beyond = sum(not floor <= value <= ceiling for value in values)
    if lower == upper or beyond > _MOST_OUTLIERS * len(values):
        return -math.inf, math.inf
    return floor, ceiling


def set_ticks(axis: Axis, scale: Scale, upright: bool) -> None:
    """Few ticks at round numbers, in four significant digits; fewer where these stand side by side."""
    if scale.logarithmic:
        decades = math.log10(scale.high / scale.low)
        between = ((1, 2, 5) if upright else (1, 3)) if decades < (2.7 if upright else 2) else (1,)
        axis.set_major_locator(LogLocator(subs=between))
    else:
        axis.set_major_locator(MaxNLocator(4 if upright else 3, steps=[1, 2, 2.5, 5, 10]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:.4g}")


def level_places(names: Sequence[Any]) -> tuple[list[float], bool]:
    """Where levels lie along their axis, and whether these places are numbers' and not only an order."""
    numbers = as_numbers(names)
    if numbers is None:
        return [float(place) for place in range(len(names))], False
    if min(numbers) > 0 and max(numbers) > _WIDE * min(numbers):
        return [math.log10(number) for number in numbers], True
    return numbers, True


@dataclass(frozen=True)
class Panel:
    """Axes on which values go up, or to the right, and levels the other way."""

    axes: Axes
    scale: Scale
    upright: bool

    def prepare(self) -> None:
        """Set the axis of values."""
        axis = self.axes.yaxis if self.upright else self.axes.xaxis
        limits, kind = (
            (self.axes.set_ylim, self.axes.set_yscale) if self.upright else (self.axes.set_xlim, self.axes.set_xscale)
        )
        if self.scale.logarithmic:
            kind("log")
        set_ticks(axis, self.scale, self.upright)
        limits(self.scale.low, self.scale.high)

    def _at(self, places: Any, values: Any) -> tuple[Any, Any]:
        return (places, values) if self.upright else (values, places)

    def runs(self, place: float, reach: float, values: Sequence[float]) -> None:
        """Every value beside its level."""
        beside = place + (np.linspace(-reach, reach, len(values)) if len(values) > 1 else np.zeros(len(values)))
        look = {"s": 13, "color": ACCENT, "alpha": 0.35, "linewidths": 0, "label": "single run"}
        self.axes.scatter(*self._at(beside, values), **look)

    def path(self, places: Sequence[float], effects: Sequence[Effect]) -> None:
        """A line through the means, broken where one is beyond the axis or there is none."""
        spots = sorted((place, e.mean) for place, e in zip(places, effects, strict=True) if e.mean is not None)
        spots = [(place, math.nan if self.scale.hides(mean) else mean) for place, mean in spots]
        if spots:
            self.axes.plot(*self._at(*zip(*spots, strict=True)), color=ACCENT, linewidth=1.2, alpha=0.6)

    def mean(self, place: float, effect: Effect, name: str) -> None:
        """A mean, with a bar of its standard error."""
        if effect.mean is None:
            return
        if effect.error is not None:
            ends = [max(effect.mean - effect.error, self.scale.low), min(effect.mean + effect.error, self.scale.high)]
            look = {"color": ACCENT, "linewidth": 1.4, "marker": "_" if self.upright else "|", "markersize": 9}
            bar = "\N{PLUS-MINUS SIGN}1 standard error over seeds"
            self.axes.plot(*self._at([place, place], ends), label=bar, **look)
        look = {"s": 26, "color": ACCENT, "linewidths": 0, "zorder": 3, "label": name}
        self.axes.scatter(*self._at([place], [effect.mean]), **look)

    def beyond(self, place: float, values: Sequence[float], mean: float | None) -> None:
        """A mark at each border that some value of a level lies beyond, with these values."""
        for border, sign, marker in ((self.scale.low, -1, "v<"), (self.scale.high, 1, "^>")):
            texts = [f"{value:.3g}" for value in values if sign * value > sign * border]
            if mean is not None and sign * mean > sign * border and len(values) > 1:
                texts.append(f"mean {mean:.3g}")
            if not texts:
                continue
            look = {"marker": marker[not self.upright], "s": 26, "color": WARN, "clip_on": False, "zorder": 4}
            self.axes.scatter(*self._at([place], [border]), label="beyond the axis", **look)
            offset = (6, -3 * sign) if self.upright else (-6 * sign, 0)
            sides = (
                ("left", "top" if sign > 0 else "bottom") if self.upright else (("right", "left")[sign < 0], "center")
            )
            self.axes.annotate(
                "\n".join(texts) if self.upright else ", ".join(texts),
                self._at(place, border),
                offset,
                textcoords="offset points",
                ha=sides[0],
                va=sides[1],
                color=WARN,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8},
            )

    def remark(self, place: float, effect: Effect) -> None:
        """Signs outside the panel: a cross and the number of values that diverged, a diamond for want of a mean."""
        along = self.axes.get_xaxis_transform() if self.upright else self.axes.get_yaxis_transform()
        look = {"transform": along, "color": WARN, "linestyle": "none", "clip_on": False, "zorder": 4}
        spot = self._at([place], [1.03])
        if effect.count > 1 and effect.mean is None:
            name = "no mean: not told apart from other factors"
            self.axes.plot(*spot, marker="D", fillstyle="none", markersize=4.5, label=name, **look)
        if effect.diverged:
            self.axes.plot(*spot, marker="x", markersize=5, markeredgewidth=1.6, label="diverged", **look)
        if effect.diverged > 1:
            words = {"xycoords": along, "textcoords": "offset points", "va": "center", "color": WARN}
            self.axes.annotate(str(effect.diverged), self._at(place, 1.03), (5, 0), **words)

    def reference(self, value: float | None) -> None:
        """A dashed line at the value of the untouched inputs, unless that is far away."""
        if value is not None and not self.scale.hides(value):
            line = self.axes.axhline if self.upright else self.axes.axvline
            line(value, color=SOFT, linewidth=1.1, linestyle=(0, (4, 3)), label="untouched input", zorder=1)

    def far(self, value: float | None) -> str:
        """A line of text with the value of the untouched inputs where it is too far away to be drawn."""
        return "" if value is None or not self.scale.hides(value) else f"\n(untouched: {value:.3g})"
