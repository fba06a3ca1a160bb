"""Figures of a study, as PNG and SVG of README width, whose bytes depend on what is given alone.

Rows are those of `reports.effects`. Metrics may carry the prefix of a logger, as in ``val/swd``: label and direction
are those of what follows the last slash.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lit_ghibli.reports.effects import Effect, has_gaps, levels, main_effects
from lit_ghibli.reports.figure_look import (
    ACCENT,
    INK,
    LETTER,
    SOFT,
    STYLE,
    WARN,
    WIDTH,
    Scale,
    add_legend,
    as_numbers,
    best_means,
    level_places,
    level_texts,
    metric_name,
    name_ticks,
    save,
    set_ticks,
    shorten,
    tick_inches,
)
from lit_ghibli.reports.heat_maps import heat_maps
from lit_ghibli.reports.tables import Row, is_number


def effects_figure(
    rows: Sequence[Row],
    factors: Sequence[str],
    metrics: Sequence[str],
    stem: str | Path,
    untouched: Mapping[str, float] | None = None,
) -> list[Path]:
    """Draw the one-way effects: a row of panels per metric, a column per factor.

    Large marks are the means of `effects.main_effects`, with bars of one standard error over seeds where there are
    several; small ones are the single runs, from left to right in the order of the rows. Factors whose levels are
    numbers, or spell some, lie on a numeric axis, a logarithmic one where they are positive and span more than
    twentyfold. One factor of names, such as the cells of a study that is a list, gives a horizontal plot instead, in
    the given order. Single outliers lie at the border of a panel with their value beside them, so that the others
    remain apart.

    Args:
        rows: One per finished run.
        factors: All factors of the study, without the seed.
        metrics: The metrics.
        stem: Where to write, without the ending: ``<stem>.png`` and ``<stem>.svg``.
        untouched: Values by metric of the inputs themselves, for a dashed line.

    Returns:
        The two files.

    Raises:
        ValueError: There is no row, no factor or no metric, or a factor that no row has.
    """
    _check(rows, factors)
    if not metrics:
        raise ValueError("a figure of effects needs at least one metric")
    named = len(factors) == 1 and as_numbers(levels(rows, factors[0])) is None
    with style.context(["default", STYLE]):
        references = {metric: value for metric, value in (untouched or {}).items() if is_number(value)}
        figure = (_named_cells if named else _one_way)(rows, factors, metrics, references)
        add_legend(figure)
        return save(figure, stem)


def pairwise_figure(rows: Sequence[Row], factors: Sequence[str], metric: str, stem: str | Path) -> list[Path]:
    """Draw a heat map of `effects.pairwise_effects` for each pair of factors.

    Dark is better where the metric has a direction, else more. The best of each map has a frame, and combinations
    without a value are hatched.

    Args:
        rows: One per finished run.
        factors: All factors of the study, without the seed.
        metric: The metric.
        stem: Where to write, without the ending: ``<stem>.png`` and ``<stem>.svg``.

    Returns:
        The two files.

    Raises:
        ValueError: There is no row, there are fewer than two factors, or one that no row has.
    """
    _check(rows, factors)
    if len(factors) < 2:
        raise ValueError(f"pairwise effects need at least two factors, got {list(factors)}")
    with style.context(["default", STYLE]):
        return save(heat_maps(rows, factors, metric), stem)


def _check(rows: Sequence[Row], factors: Sequence[str]) -> None:
    if not rows or not factors:
        raise ValueError(f"a figure needs at least one row and one factor, got {len(rows)} and {len(factors)}")
    for factor in factors:
        if not any(factor in row for row in rows):
            raise ValueError(f"no row has the factor {factor!r}; they have {', '.join(rows[0])}")


def _one_way(
    rows: Sequence[Row], factors: Sequence[str], metrics: Sequence[str], untouched: Mapping[str, float]
) -> Figure:
    width = min(WIDTH, 1.0 + 3.2 * len(factors))
    across = (width - 0.8) / len(factors) - 0.15
    below = max(tick_inches(level_texts(levels(rows, factor)), across) for factor in factors)
    figure = Figure(figsize=(width, 0.7 + below + 1.75 * len(metrics)), layout="constrained")
    grid = figure.subplots(len(metrics), len(factors), squeeze=False, sharex="col", sharey="row")
    for metric, line in zip(metrics, grid, strict=True):
        effects = [main_effects(rows, factor, metric, factors) for factor in factors]
        scale = _scale(rows, metric, itertools.chain(*effects), untouched.get(metric))
        name = "mean" if not has_gaps(rows, metric, factors) else "mean, adjusted for missing combinations"
        for factor, axes, of_factor in zip(factors, line, effects, strict=True):
            panel = _Panel(axes, scale, upright=True)
            panel.draw(rows, factor, metric, of_factor, name)
            panel.reference(untouched.get(metric))
        line[0].set_ylabel(metric_name(metric, 22) + panel.far(untouched.get(metric)))
    for factor, axes in zip(factors, grid[-1], strict=True):
        _label_levels(axes, levels(rows, factor), across)
        axes.set_xlabel(shorten(factor, int(0.85 * across / LETTER)), fontweight="bold")
    figure.align_labels()
    return figure


def _named_cells(
    rows: Sequence[Row], factors: Sequence[str], metrics: Sequence[str], untouched: Mapping[str, float]
) -> Figure:
    names = levels(rows, factors[0])
    width = min(WIDTH, 3.0 + 2.6 * len(metrics))
    figure = Figure(figsize=(width, 1.0 + 0.3 * len(names)), layout="constrained")
    line = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for metric, axes in zip(metrics, line, strict=True):
        effects = main_effects(rows, factors[0], metric, factors)
        panel = _Panel(axes, _scale(rows, metric, effects, untouched.get(metric)), upright=False)
        panel.draw(rows, factors[0], metric, effects, "mean")
        panel.reference(untouched.get(metric))
        best = best_means(metric, [effect.mean for effect in effects])
        beside = 20 if any(effect.diverged for effect in effects) else 7
        for place, effect in enumerate(effects):  # the means as numbers to the right of the panel
            if effect.mean is not None:
                look = {"color": ACCENT, "fontweight": "bold"} if place in best else {"color": SOFT}
                words = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "va": "center", **look}
                axes.annotate(f"{effect.mean:.4g}", (1.0, place), (beside, 0), **words)
        axes.set_xlabel(
            metric_name(metric, int((width - 2.0) / len(metrics) / LETTER)) + panel.far(untouched.get(metric))
        )
    line[0].set_yticks(range(len(names)), [shorten(text, 34) for text in level_texts(names)], color=INK)
    line[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def _scale(rows: Sequence[Row], metric: str, effects: Iterable[Effect], reference: float | None) -> Scale:
    """An axis for all values of a metric, and for the means and errors of its effects."""
    values = [row[metric] for row in rows if is_number(row.get(metric))]
    means = [effect for effect in effects if effect.mean is not None]
    ends = [effect.mean + sign * (effect.error or 0.0) for effect in means for sign in (-1, 1)]
    return Scale.around(values, ends, reference)


def _label_levels(axes: Axes, names: Sequence[Any], width: float) -> None:
    """Ticks at the levels; names of numbers that would touch their left neighbour are left out."""
    places, numbers = level_places(names)
    texts = level_texts(names)
    low, high = min(places), max(places)
    margin = 0.09 * (high - low) if numbers else 0.5
    axes.set_xlim(low - margin, high + margin)
    if numbers:
        inches = width / (high - low + 2 * margin)
        kept, end = [], -math.inf
        for place, text in sorted(zip(places, texts, strict=True)):
            middle, half = place * inches, LETTER * (len(text) + 1) / 2
            if middle - half >= end:
                kept.append((place, text))
                end = middle + half
        axes.set_xticks(*zip(*kept, strict=True))
    else:
        name_ticks(axes, places, texts, width)


@dataclass(frozen=True)
class _Panel:
    """Axes on which values go up, or to the right, and levels the other way."""

    axes: Axes
    scale: Scale
    upright: bool

    def draw(self, rows: Sequence[Row], factor: str, metric: str, effects: Sequence[Effect], name: str) -> None:
        """Every value and every mean of a metric at the levels of a factor; ``name`` is what the legend calls means."""
        side = "y" if self.upright else "x"
        if self.scale.logarithmic:
            self.axes.set(**{f"{side}scale": "log"})
        set_ticks(self.axes.yaxis if self.upright else self.axes.xaxis, self.scale, self.upright)
        self.axes.set(**{f"{side}lim": (self.scale.low, self.scale.high)})
        places, numbers = level_places([effect.level for effect in effects])
        gap = min((b - a for a, b in itertools.pairwise(sorted(places))), default=1.0)
        reach = min(0.22 * gap, 0.03 * (max(places) - min(places))) if numbers else 0.16
        if numbers:
            self.path(places, effects)
        several = any(effect.count > 1 or effect.mean is None for effect in effects)
        for place, effect in zip(places, effects, strict=True):
            values = [row[metric] for row in rows if row.get(factor) == effect.level and is_number(row.get(metric))]
            if several:
                self.runs(place, reach, values)
            self.mean(place, effect, name)
            self.beyond(place, values, effect.mean)
            self.remark(place, effect)
        if not any(effect.count for effect in effects):
            words = {"transform": self.axes.transAxes, "ha": "center", "va": "center", "color": SOFT}
            self.axes.text(0.5, 0.5, "no finite value", **words)

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
            self.axes.annotate(
                "\n".join(texts) if self.upright else ", ".join(texts),
                self._at(place, border),
                offset,
                textcoords="offset points",
                ha="left" if self.upright or sign < 0 else "right",
                va=("top" if sign > 0 else "bottom") if self.upright else "center",
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
