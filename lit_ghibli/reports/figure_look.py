"""How figures look: their colors, texts, axes, legend, and files."""

import io
import itertools
import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from lit_ghibli.files import write_atomically
from lit_ghibli.reports.tables import arrow, best_rows, format_value, label

# The colors of the comparison page; every meaning has a shape or a lightness of its own as well.
INK, SOFT, LINE, ACCENT, WARN = "#23282c", "#677078", "#e2dfd6", "#2c6e5b", "#a4421a"
HATCH = "#b9b5a8"

WIDTH = 9.0  # inches, which at 200 dots each is twice the width of a README
SIZE = 8.5  # points, of all text
LETTER = 0.6 * SIZE / 72  # inches, roughly
_TICK_LETTERS = 18  # of a name below a panel
_LINE = 0.2  # inches of a line of text and what is around it
_WIDE = 20  # ratio of the largest to the smallest value beyond which an axis is logarithmic
_FENCE = 3.0  # interquartile ranges beyond the quartiles where a value is an outlier
_MOST_OUTLIERS = 1 / 8  # of the values; more of them are no outliers
STYLE = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, hence is the same everywhere
    "font.size": SIZE,
    "axes.labelsize": SIZE,
    "xtick.labelsize": SIZE,
    "ytick.labelsize": SIZE,
    "legend.fontsize": SIZE,
    "text.color": INK,
    "text.parse_math": False,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LINE,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "hatch.color": HATCH,
    "hatch.linewidth": 0.8,
    "savefig.dpi": 200,
    "svg.hashsalt": "lit-ghibli",  # else names inside the file are drawn by chance
}


def save(figure: Figure, stem: str | Path) -> list[Path]:
    """Write both files without date and version of matplotlib."""
    png, svg = Path(f"{stem}.png"), Path(f"{stem}.svg")
    for path, nameless in ((png, ("Software",)), (svg, ("Date", "Creator"))):
        content = io.BytesIO()  # first: what draws into a file takes a part of the last bytes for all of them
        figure.savefig(content, format=path.suffix[1:], metadata=dict.fromkeys(nameless))
        with write_atomically(path, "wb") as file:
            file.write(content.getbuffer())
    return [png, svg]


def add_legend(figure: Figure) -> None:
    """A legend of the marks that there are."""
    handles = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    if handles.keys() - {"mean"}:
        one_line = LETTER * sum(len(name) + 7 for name in handles) < figure.get_figwidth()
        columns = len(handles) if one_line else -(-len(handles) // 2)
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, borderaxespad=0.2)


def name_ticks(axes: Axes, places: Sequence[float], texts: Sequence[str], width: float) -> None:
    """Name the places on the horizontal axis, upwards where the names would touch."""
    upwards = tick_inches(texts, width) > _LINE
    axes.set_xticks(places, [shorten(text, _TICK_LETTERS) for text in texts], rotation=90 if upwards else 0)


def tick_inches(texts: Sequence[str], width: float) -> float:
    """Height that the names of evenly spaced places need."""
    longest = max(len(shorten(text, _TICK_LETTERS)) for text in texts)
    return _LINE if (longest + 1) * LETTER < width / len(texts) else longest * LETTER


def best_means(metric: str, means: Sequence[float | None]) -> set[int]:
    """Indices of the best means as far as three digits tell."""
    name = bare_metric(metric)
    return best_rows([{name: None if mean is None else float(f"{mean:.3g}")} for mean in means], name)


def as_numbers(names: Sequence[Any]) -> list[float] | None:
    """The numbers that the levels of a factor are, or spell; None where one is no number, or where there is but one."""
    try:
        numbers = [float(name) for name in names if not isinstance(name, bool)]
    except (TypeError, ValueError):
        return None
    return numbers if 1 < len(names) == len(numbers) and all(map(math.isfinite, numbers)) else None


def level_texts(names: Sequence[Any]) -> list[str]:
    """Levels as people write them, such as 1e-5 for ``1e-05`` and 2 for ``2.0``."""
    numbers = as_numbers(names)
    if numbers is None:
        return [format_value(name) for name in names]
    texts = [f"{number:.6g}" if number == int(number) else f"{number:.4g}" for number in numbers]
    return [re.sub(r"e\+?(-?)0*", r"e\1", text) for text in texts]


def bare_metric(metric: str) -> str:
    """A metric without the prefix that loggers know it by."""
    return metric.rpartition("/")[2]


def metric_name(metric: str, letters: int = 40) -> str:
    """A metric for people, with the direction in which it is better, in lines of so many letters."""
    better = arrow(bare_metric(metric))
    return textwrap.fill(label(bare_metric(metric)) + "\N{NO-BREAK SPACE}" * bool(better) + better, letters)


def shorten(text: str, letters: int) -> str:
    """A text without its middle where it is long: names of a study often differ at their ends."""
    if len(text) <= letters:
        return text
    start = (letters - 1) // 2
    return f"{text[:start]}\N{HORIZONTAL ELLIPSIS}{text[start + 1 - letters :]}"


@dataclass(frozen=True)
class Scale:
    """The axis of a metric from ``low`` to ``high``: all values, but for a few outliers."""

    low: float
    high: float
    logarithmic: bool

    @classmethod
    def around(cls, values: Sequence[float], ends: Sequence[float] = (), reference: float | None = None) -> "Scale":
        """An axis for ``values`` but for outliers, for ``ends`` where there are none, and for a reference that is near.

        It is logarithmic for positive values that span much and crowd at its lower end.
        """
        if not values:
            return cls(0.0, 1.0, False)
        steep = min(values) > 0 and max(values) > max(_WIDE * min(values), 4 * float(np.median(values)))
        unit, back = (math.log, math.exp) if steep else (float, float)
        lower, upper = np.percentile([unit(value) for value in values], [25, 75])
        reach = _FENCE * (upper - lower)
        inside = [place for place in map(unit, values) if lower - reach <= place <= upper + reach]
        if lower == upper or len(values) - len(inside) > _MOST_OUTLIERS * len(values):
            inside = [unit(value) for value in values]
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


class _Apart(MaxNLocator):
    """Ticks at round numbers, as many as stand side by side with a letter between them, and three at most."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        room = self.axis.axes.bbox.width / self.axis.get_figure().dpi / LETTER
        for self._nbins in (3, 2, 1):
            ticks = super().tick_values(vmin, vmax)
            seen = [tick for tick in ticks if vmin <= tick <= vmax]
            pairs = [(room * (b - a) / (vmax - vmin), tick_text(a) + tick_text(b)) for a, b in itertools.pairwise(seen)]
            if all(letters > len(texts) / 2 + 1 for letters, texts in pairs):
                break
        return ticks


def tick_text(value: float, _: int | None = None) -> str:
    """A number beside a tick, in four significant digits."""
    return f"{value:.4g}"


def set_ticks(axis: Axis, scale: Scale, upright: bool) -> None:
    """Few ticks at round numbers; fewer where these stand side by side."""
    if scale.logarithmic:
        decades = math.log10(scale.high / scale.low)
        between = ((1, 2, 5) if upright else (1, 3)) if decades < (2.7 if upright else 2) else (1,)
        axis.set_major_locator(LogLocator(subs=between))
    else:
        steps = [1, 2, 2.5, 5, 10]
        axis.set_major_locator(MaxNLocator(4, steps=steps) if upright else _Apart(steps=steps, min_n_ticks=1))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(tick_text)


def level_places(names: Sequence[Any]) -> tuple[list[float], bool]:
    """Where levels lie along their axis, and whether these places are numbers' and not only an order."""
    numbers = as_numbers(names)
    if numbers is None:
        return [float(place) for place in range(len(names))], False
    if min(numbers) > 0 and max(numbers) > _WIDE * min(numbers):
        return [math.log10(number) for number in numbers], True
    return numbers, True
