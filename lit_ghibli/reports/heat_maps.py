"""Heat maps of a metric by two factors."""

import itertools
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lit_ghibli.reports.effects import Effect, levels, pairwise_effects
from lit_ghibli.reports.figure_look import (
    HATCH,
    INK,
    LETTER,
    WARN,
    WIDTH,
    Scale,
    add_legend,
    as_numbers,
    bare_metric,
    best_means,
    level_texts,
    metric_name,
    name_ticks,
    set_ticks,
    shorten,
    tick_inches,
)
from lit_ghibli.reports.tables import Row, direction

_BETTER = LinearSegmentedColormap.from_list("better", ["#f6f1e3", "#b9d3c4", "#5d9a84", "#2c6e5b", "#143d31"])
_MORE = LinearSegmentedColormap.from_list("more", ["#f1f3f8", "#b4c3e0", "#3a62a8", "#1c3560"])
_BEST = "#e0861a"
_CELL_HEIGHT = 0.3  # inches
_MAP_SIZE = 7.5  # points, of a number in a heat map
_MAP_LETTER = 0.68 * _MAP_SIZE / 72  # inches, roughly, of its digits in bold
_MAP_LETTERS = 12  # of a name beside a heat map


def heat_maps(rows: Sequence[Row], factors: Sequence[str], metric: str) -> Figure:
    """A figure with a map for each pair of factors, drawn under the style of `figure_look`."""
    pairs = list(itertools.combinations(factors, 2))
    names = {factor: levels(rows, factor) for factor in factors}
    names = {factor: sorted(of, key=float) if as_numbers(of) else of for factor, of in names.items()}
    maps = [pairwise_effects(rows, first, second, metric, factors) for first, second in pairs]
    effects = [{cell.level: cell for line in matrix for cell in line} for matrix in maps]
    means = [cell.mean for cells in effects for cell in cells.values() if cell.mean is not None]
    scale, cell = Scale.around(means), _MAP_LETTER * (max((len(f"{mean:.3g}") for mean in means), default=0) + 0.8)
    figure, spots, width = _grid_of_maps([(names[first], names[second]) for first, second in pairs], cell)
    colors = {1: _BETTER, -1: _BETTER.reversed(), 0: _MORE}[direction(bare_metric(metric))]
    shade = ScalarMappable((LogNorm if scale.logarithmic else Normalize)(scale.low, scale.high, clip=True), colors)
    for axes, (first, second), cells in zip(spots, pairs, effects, strict=False):
        _label_map(axes, (first, second), (names[first], names[second]), width)
        _draw_map(axes, [[cells[a, b] for b in names[second]] for a in names[first]], metric, shade)
    for axes in spots[len(pairs) :]:
        axes.set_axis_off()
    beyond = any(mean < scale.low for mean in means), any(mean > scale.high for mean in means)
    bar = figure.colorbar(
        shade,
        ax=spots,
        location="top",
        shrink=2.4 / figure.get_figwidth(),
        aspect=22,
        extend={(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[beyond],
        pad=0.02,
        anchor=(0.5, 0.0),
    )
    bar.outline.set_visible(False)
    bar.ax.grid(False)
    set_ticks(bar.ax.xaxis, scale, upright=False)
    bar.set_label(metric_name(metric) + ", darker is better" * bool(direction(bare_metric(metric))))
    add_legend(figure)
    return figure


def _grid_of_maps(names: Sequence[tuple[list[Any], list[Any]]], cell: float) -> tuple[Figure, list[Axes], float]:
    """A figure with room for maps of these levels and cells of so many inches; its axes, and inches across each."""
    texts = [[level_texts(of_factor) for of_factor in pair] for pair in names]
    beside = LETTER * (max(len(shorten(text, _MAP_LETTERS)) for down, _ in texts for text in down) + 2.5)
    across = max(cell * len(across) for _, across in texts)
    columns = max(1, min(len(names), 3, int(WIDTH / (beside + across))))
    width = min(WIDTH, columns * (beside + max(across, 2.4)))
    inches = width / columns - beside
    lines = [texts[start : start + columns] for start in range(0, len(texts), columns)]
    heights = [max(len(down) for down, _ in line) for line in lines]
    below = sum(max(tick_inches(across, inches) for _, across in line) for line in lines)
    size = width, 0.9 + _CELL_HEIGHT * sum(heights) + 0.35 * len(lines) + below
    figure = Figure(figsize=size, layout="constrained")
    spots = figure.subplots(len(lines), columns, squeeze=False, height_ratios=heights)
    return figure, list(spots.ravel()), inches


def _draw_map(axes: Axes, matrix: Sequence[Sequence[Effect]], metric: str, shade: ScalarMappable) -> None:
    cells = [(across, down, effect) for down, line in enumerate(matrix) for across, effect in enumerate(line)]
    best = best_means(metric, [effect.mean for _, _, effect in cells])
    for index, (across, down, effect) in enumerate(cells):
        if effect.mean is None:
            _draw_gap(axes, across, down, effect)
            continue
        face = shade.to_rgba(effect.mean)
        axes.add_patch(Rectangle((across, down), 1, 1, facecolor=face, edgecolor="white", linewidth=1.5))
        lightness = 0.2126 * face[0] + 0.7152 * face[1] + 0.0722 * face[2]
        look = {"color": "white" if lightness < 0.5 else INK, "fontweight": "bold" if index in best else "normal"}
        look |= {"ha": "center", "va": "center", "fontsize": _MAP_SIZE}
        axes.text(across + 0.5, down + 0.5, f"{effect.mean:.3g}", **look)
    for index in sorted(best):
        across, down, _ = cells[index]
        frame = Rectangle((across, down), 1, 1, fill=False, edgecolor=_BEST, linewidth=2.4, zorder=3, label="best")
        axes.add_patch(frame)


def _draw_gap(axes: Axes, across: int, down: int, effect: Effect) -> None:
    """A hatched cell, with a sign where there were runs and yet there is no mean."""
    name, sign = "no run", ""
    if effect.count:
        name, sign = "? not told apart from other factors", "?"
    elif effect.diverged:
        name, sign = "\N{MULTIPLICATION SIGN} diverged", "\N{MULTIPLICATION SIGN}"
    look = {"facecolor": "white", "edgecolor": HATCH, "hatch": "////", "linewidth": 0, "label": name}
    axes.add_patch(Rectangle((across, down), 1, 1, **look))
    if sign:
        plate = {"facecolor": "white", "edgecolor": "none", "boxstyle": "round,pad=0.15"}
        axes.text(across + 0.5, down + 0.5, sign, ha="center", va="center", color=WARN, fontweight="bold", bbox=plate)


def _label_map(axes: Axes, factors: tuple[str, str], names: tuple[list[Any], list[Any]], width: float) -> None:
    down, across = map(level_texts, names)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_xlim(0, len(across))
    axes.set_ylim(len(down), 0)
    axes.set_yticks([place + 0.5 for place in range(len(down))], [shorten(text, _MAP_LETTERS) for text in down])
    name_ticks(axes, [place + 0.5 for place in range(len(across))], across, width)
    axes.set_ylabel(shorten(factors[0], max(10, int(_CELL_HEIGHT * len(down) / LETTER))), fontweight="bold")
    axes.set_xlabel(shorten(factors[1], max(10, int(width / LETTER))), fontweight="bold")
