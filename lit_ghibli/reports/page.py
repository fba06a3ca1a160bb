"""The page of a comparison: one HTML file that needs nothing besides itself."""

import base64
import html
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

from PIL import Image

from lit_ghibli.reports.columns import arrow, best_rows, direction, is_number, label, without_bounds
from lit_ghibli.reports.plots import Point, pareto_plot
from lit_ghibli.reports.tables import Row, columns, format_value

_ASSETS = Path(__file__).parent / "assets"
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


def render_page(page: Page) -> str:
    """The page as HTML that opens from disk: no script, font, style or picture of it lies elsewhere."""
    template, style, script = (
        (_ASSETS / f"compare.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    sections = {"numbers": ("Numbers", _numbers(page))}
    if page.costs:
        sections["costs"] = ("Costs", _costs(page))
    if page.gallery:
        sections["pictures"] = ("Pictures", _gallery(page.gallery))
    if page.verdict:
        sections["training"] = ("Training pictures", _nearest(page))
    links = "".join(f'<a href="#{key}">{title}</a>' for key, (title, _) in sections.items())
    body = "\n".join(
        f'<section id="{key}">\n<h2>{title}</h2>\n{text}\n</section>' for key, (title, text) in sections.items()
    )
    words = {"title": _text(page.title), "lede": _text(page.lede), "footer": _text(page.footer)}
    return Template(template).substitute(words, links=links, body=body, style=style, script=script)


def embed(picture: Image.Image, side: int, limit: int) -> str:
    """A picture as the address of itself, so that no file is needed.

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


def _text(text: str) -> str:
    return html.escape(text)


def _numbers(page: Page) -> str:
    rows = [{name: value for name, value in row.items() if name not in page.costs} for row in page.rows]
    lines = ['<p class="hint">Arrows say which way is better, stars mark the best. Click a heading to sort.</p>']
    lines += [_table(rows, page.besides), _list(page.notes)]
    if page.protocol:
        facts = "".join(
            f"<div><dt>{_text(name.replace('_', ' '))}</dt><dd>{_text(format_value(value))}</dd></div>"
            for name, value in page.protocol.items()
        )
        lines.append(f"<details open><summary>How these numbers were measured</summary><dl>{facts}</dl></details>")
    return "\n".join(lines)


def _costs(page: Page) -> str:
    names = ["name", *page.costs]
    rows = [{name: row.get(name) for name in names} for row in page.rows if any(map(row.get, page.costs))]
    return "\n".join([_table(rows, ()), _list(page.conditions), _plots(page)])


def _table(rows: Sequence[Row], besides: Collection[int]) -> str:
    names = columns([without_bounds(row) for row in rows])
    best = {name: best_rows(rows, name, besides) for name in names}
    heads = "".join(
        f'<th scope="col" aria-sort="none" data-direction="{direction(name)}"><button type="button">'
        f"{_text(label(name))} {arrow(name)}</button></th>"
        for name in names
    )
    lines = ['<div class="wide"><table>', f"<thead><tr>{heads}</tr></thead>", "<tbody>"]
    for index, row in enumerate(rows):
        cells = "".join(_cell(row, name, index in best[name]) for name in names)
        kind = ' class="reference"' * (index in besides)
        lines.append(f"<tr{kind}>{cells}</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def _list(sentences: Sequence[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{_text(each)}</li>" for each in sentences)}</ul>' if sentences else ""


def _cell(row: Row, column: str, best: bool) -> str:
    value = row.get(column)
    key = repr(value) if is_number(value) else "" if value is None else _text(str(value))
    if column == "name":
        return f'<th scope="row" data-value="{key}">{_text(str(value))}</th>'
    kind = ' class="best"' * best
    bounds = [row[end] for end in (f"{column}_low", f"{column}_high") if end in row]
    beside = f"<small>{format_value(bounds[0])} \u2013 {format_value(bounds[1])}</small>" if bounds else ""
    return f'<td data-value="{key}"{kind}><b>{_text(format_value(value))}</b>{beside}</td>'


def _plots(page: Page) -> str:
    """One group of plots for each metric, of which one is seen at a time; empty where no cost is known."""
    groups = []
    for metric in filter(direction, page.metrics):
        drawn = [pareto_plot(points, cost, metric) for cost in page.plotted if (points := _points(page, cost, metric))]
        if drawn:
            groups.append((metric, "\n".join(f"<div>{plot}</div>" for plot in drawn)))
    if not groups:
        return ""
    buttons, plots = [], []
    for number, (metric, drawn) in enumerate(groups):
        pressed = "true" if number == 0 else "false"
        buttons.append(
            f'<button type="button" data-metric="{metric}" aria-pressed="{pressed}">{_text(label(metric))}</button>'
        )
        plots.append(f'<div class="plots" data-metric="{metric}"{" hidden" * (number > 0)}>\n{drawn}\n</div>')
    hint = (
        "Filled points are on the Pareto front: no other method is better in one of the two numbers without being "
        "worse in the other. Methods whose cost is not known, such as folders of pictures, are left out."
    )
    return "\n".join(
        [
            f'<p class="hint">{hint}</p>',
            f'<div class="choices" role="group" aria-label="Metric">{"".join(buttons)}</div>',
            *plots,
        ]
    )


def _points(page: Page, cost: str, metric: str) -> list[Point]:
    return [
        Point(row["name"], index, row[cost], row[metric])
        for index, row in enumerate(page.rows)
        if index not in page.besides and is_number(row.get(cost)) and is_number(row.get(metric))
    ]


def _gallery(gallery: Mapping[str, Mapping[str, Image.Image]]) -> str:
    titles = list(next(iter(gallery.values())))
    count = len(gallery) * len(titles)
    side, limit = picture_side(count), _BYTES // count
    names = "".join(f'<option value="{row}">{_text(name)}</option>' for row, name in enumerate(gallery))
    shots = "\n".join(
        f'<div class="shot" data-row="{row}"><h3>{_text(name)}</h3><div class="strip">'
        f"{''.join(_thumbs(pictures, name, side, limit))}</div></div>"
        for row, (name, pictures) in enumerate(gallery.items())
    )
    return f"""<p class="hint">Drag the line, or move it with the arrow keys. Click two pictures in a row below to
compare them.</p>
<div class="bar">
<button type="button" id="previous" aria-label="Previous picture">\u2039</button>
<select id="picture" aria-label="Picture">{names}</select>
<button type="button" id="next" aria-label="Next picture">\u203a</button>
<span class="gap"></span>
<select id="before-choice" aria-label="On the left">{_options(titles, 0)}</select>
<button type="button" id="swap" aria-label="Swap left and right">\u21c4</button>
<select id="after-choice" aria-label="On the right">{_options(titles, min(1, len(titles) - 1))}</select>
</div>
<div id="slider">
<img id="before" src="data:," alt="">
<img id="after" src="data:," alt="">
<input id="cut" type="range" min="0" max="1000" step="10" value="500"
aria-label="Where the left picture ends and the right one begins">
<span id="line"></span><span class="tag" id="tag-before"></span><span class="tag" id="tag-after"></span>
</div>
<div style="--columns: {len(titles)}">
{shots}
</div>"""


def _options(titles: Sequence[str], chosen: int) -> str:
    return "".join(
        f'<option value="{number}"{" selected" * (number == chosen)}>{_text(title)}</option>'
        for number, title in enumerate(titles)
    )


def _thumbs(pictures: Mapping[str, Image.Image], name: str, side: int, limit: int) -> Iterator[str]:
    for column, (title, picture) in enumerate(pictures.items()):
        alt = _text(f"{name}: {title}")
        yield (
            f'<button type="button" data-column="{column}" aria-pressed="false">'
            f'<img src="{embed(picture, side, limit)}" alt="{alt}" decoding="async"'
            f' width="{picture.width}" height="{picture.height}">'
            f"<span>{_text(title)}</span></button>"
        )


def _nearest(page: Page) -> str:
    sentence, warning = page.verdict
    lines = [f'<p class="verdict{" warning" * warning}">{_text(sentence)}</p>']
    if page.nearest:
        lines.append(
            '<p class="hint">The nearest pairs by perceptual hash: held-out inputs beside inputs of the training, and '
            "outputs beside the pictures of the style that their run was shown.</p>"
        )
        lines.append(f'<div class="neighbours">{"".join(map(_neighbour, page.nearest))}</div>')
    return "\n".join(lines)


def _neighbour(pair: NearestPair) -> str:
    images = "".join(
        f'<img src="{embed(picture, 160, 9000)}" alt="{what}">'
        for picture, what in zip(pair.pictures, ("picture", "nearest training picture"), strict=True)
    )
    kind = ' class="near"' if pair.is_duplicate else ""
    bits = f"<em>{pair.bits} of 64 bits apart{': a near-duplicate' * pair.is_duplicate}</em>"
    return (
        f"<figure{kind}><div>{images}</div><figcaption><strong>{_text(pair.method)}</strong> {_text(pair.name)}, "
        f"nearest {_text(pair.training)}<br>{bits}</figcaption></figure>"
    )
