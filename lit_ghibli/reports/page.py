"""The page of a comparison: one HTML file that needs nothing besides itself."""

import base64
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from lit_ghibli.reports.pareto import Point, pareto_plot
from lit_ghibli.reports.tables import (
    Row,
    arrow,
    best_rows,
    columns,
    direction,
    format_value,
    is_number,
    label,
    without_bounds,
)
from lit_ghibli.reports.templates import render

_TEMPLATE = Path(__file__).parent / "templates" / "compare.html.j2"
_BYTES = 12_000_000  # of all pictures of the gallery, which base64 makes a third longer
_LONGEST_SIDE = 512  # pixels
_SHORTEST_SIDE = 96
_DENSITY = 0.35  # bytes that a pixel of a photograph takes as JPEG of good quality
_QUALITIES = (88, 80, 70, 55, 40, 25, 10)


@dataclass(frozen=True)
class NearestPair:
    """A picture beside the training picture that is nearest to it.

    Attributes:
        method: Whose picture it is.
        name: The held-out input's name.
        training: The training picture's name.
        bits: In how many of 64 bits their hashes differ.
        is_duplicate: Whether these are so few that the pictures count as the same.
        pictures: Both, RGB.
    """

    method: str
    name: str
    training: str
    bits: int
    is_duplicate: bool
    pictures: tuple[Image.Image, Image.Image]


@dataclass
class Page:
    """What is on a page.

    Attributes:
        title: Its headline.
        lede: A sentence below it.
        rows: The tables; the first column is ``name``, and ``<metric>_low`` and ``_high`` are ends of intervals.
        metrics: Columns that are metrics, the first of which is plotted at first.
        costs: Columns of costs, which are a table of their own.
        plotted: Those of them that metrics are plotted against.
        besides: Indices of rows that do not compete, such as the untouched inputs'.
        notes: Sentences below the table of metrics.
        conditions: Sentences below that of costs.
        protocol: How the numbers came to be.
        gallery: Pictures by their titles, by the inputs' names; the same titles in the same order for all.
        nearest: The pairs to show.
        verdict: What these say, and whether that is a warning.
        footer: Last line.
    """

    title: str
    lede: str
    rows: Sequence[Row]
    metrics: Sequence[str]
    costs: Sequence[str] = ()
    plotted: Sequence[str] = ()
    besides: Collection[int] = ()
    notes: Sequence[str] = ()
    conditions: Sequence[str] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)
    gallery: Mapping[str, Mapping[str, Image.Image]] = field(default_factory=dict)
    nearest: Sequence[NearestPair] = ()
    verdict: tuple[str, bool] | None = None
    footer: str = ""


def picture_side(count: int) -> int:
    """Pixels of the longer side at which ``count`` photographs fit into one page."""
    side = int((_BYTES / _DENSITY / max(count, 1)) ** 0.5)
    return min(max(side, _SHORTEST_SIDE), _LONGEST_SIDE)


def embed(picture: Image.Image, side: int, limit: int) -> str:
    """A picture as a data URL, so that no file is needed.

    Args:
        picture: RGB.
        side: Pixels that its longer side is reduced to.
        limit: Bytes that it may take as JPEG, if that is possible at all; its quality is chosen for it.
    """
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= limit:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def render_page(page: Page) -> str:
    """The page as HTML that opens from disk: no script, font, style or picture of it lies elsewhere."""
    of_metrics = [{name: value for name, value in row.items() if name not in page.costs} for row in page.rows]
    of_costs = [
        {name: row.get(name) for name in ("name", *page.costs)} for row in page.rows if any(map(row.get, page.costs))
    ]
    titles = list(next(iter(page.gallery.values()), {}))
    count = max(len(page.gallery) * len(titles), 1)
    html = render(
        _TEMPLATE,
        {"label": label, "arrow": arrow, "direction": direction, "cell": format_value, "embed": embed},
        page=page,
        numbers=_table(of_metrics, page.besides),
        costs=_table(of_costs, ()),
        plots=_plots(page),
        titles=titles,
        side=picture_side(count),
        limit=_BYTES // count,
    )
    return str(html)


def _table(rows: Sequence[Row], besides: Collection[int]) -> dict[str, Any]:
    """What the template draws as a table."""
    names = columns([without_bounds(row) for row in rows])
    best = {name: best_rows(rows, name, besides) for name in names}
    return {"names": names, "rows": rows, "besides": besides, "best": best}


def _plots(page: Page) -> dict[str, list[str]]:
    """Plots against every cost by metric, of those metrics that have one."""
    plots: dict[str, list[str]] = {}
    for metric in filter(direction, page.metrics):
        for cost in page.plotted:
            points = [
                Point(row["name"], index, row[cost], row[metric])
                for index, row in enumerate(page.rows)
                if index not in page.besides and is_number(row.get(cost)) and is_number(row.get(metric))
            ]
            if points:
                plots.setdefault(metric, []).append(pareto_plot(points, cost, metric))
    return plots
