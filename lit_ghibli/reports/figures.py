"""Figures of a study, as PNG and SVG of README width, whose bytes depend on what is given alone.

Rows are those of `reports.effects`. Metrics may carry the prefix of a logger, as in ``val/swd``: label and direction
are those of what follows the last slash.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
    WIDTH,
    add_legend,
    as_numbers,
    best_means,
    level_texts,
    metric_name,
    name_ticks,
    save,
    shorten,
    tick_inches,
)
from lit_ghibli.reports.heat_maps import heat_maps
from lit_ghibli.reports.panels import Panel, Scale, level_places
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
        scale = Scale.of(rows, metric, itertools.chain(*effects), untouched.get(metric))
        name = "mean" if not has_gaps(rows, metric, factors) else "mean, adjusted for missing combinations"
        for factor, axes, of_factor in zip(factors, line, effects, strict=True):
            panel = Panel(axes, scale, upright=True)
            panel.prepare()
            _draw_levels(panel, rows, factor, metric, of_factor, name)
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
        panel = Panel(axes, Scale.of(rows, metric, effects, untouched.get(metric)), upright=False)
        panel.prepare()
        _draw_levels(panel, rows, factors[0], metric, effects, "mean")
        panel.reference(untouched.get(metric))
        _write_values(axes, metric, effects)
        axes.set_xlabel(
            metric_name(metric, int((width - 2.0) / len(metrics) / LETTER)) + panel.far(untouched.get(metric))
        )
    line[0].set_yticks(range(len(names)), [shorten(text, 34) for text in level_texts(names)], color=INK)
    line[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def _write_values(axes: Axes, metric: str, effects: Sequence[Effect]) -> None:
    """The means as numbers to the right of the panel, the best in bold."""
    best = best_means(metric, [effect.mean for effect in effects])
    beside = 20 if any(effect.diverged for effect in effects) else 7
    for place, effect in enumerate(effects):
        if effect.mean is not None:
            look = {"color": ACCENT, "fontweight": "bold"} if place in best else {"color": SOFT}
            words = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "va": "center", **look}
            axes.annotate(f"{effect.mean:.4g}", (1.0, place), (beside, 0), **words)


def _draw_levels(
    panel: Panel, rows: Sequence[Row], factor: str, metric: str, effects: Sequence[Effect], name: str
) -> None:
    places, numbers = level_places([effect.level for effect in effects])
    gap = min((b - a for a, b in itertools.pairwise(sorted(places))), default=1.0)
    reach = min(0.22 * gap, 0.03 * (max(places) - min(places))) if numbers else 0.16
    if numbers:
        panel.path(places, effects)
    for place, effect in zip(places, effects, strict=True):
        values = [row[metric] for row in rows if row.get(factor) == effect.level and is_number(row.get(metric))]
        if any(other.count > 1 or other.mean is None for other in effects):
            panel.runs(place, reach, values)
        panel.mean(place, effect, name)
        panel.beyond(place, values, effect.mean)
        panel.remark(place, effect)
    if not any(effect.count for effect in effects):
        panel.axes.text(
            0.5, 0.5, "no finite value", transform=panel.axes.transAxes, ha="center", va="center", color=SOFT
        )


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
