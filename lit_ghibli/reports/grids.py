"""Sheets of pictures with titles."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARGIN = 6
TITLE_HEIGHT = 22  # of one line
PAPER = (255, 255, 255)
INK = (40, 40, 40)
_LINE = 16  # pixels from one line of a title to the next


Cell = tuple[str, np.ndarray]  # a column's title and a picture; titles may repeat


def labelled_grid(rows: Sequence[Sequence[Cell]], *, max_side: int) -> Image.Image:
    """Draw rows of pictures under their column titles.

    Args:
        rows: For each row, titles and ``uint8`` pictures ``(H, W, 3)``; the titles of the first row are drawn, on as
            many lines as their columns are narrow.
        max_side: Pictures with a longer side are scaled down to it, in pixels; those that fit into it several
            times are enlarged by that whole number.

    Returns:
        One RGB picture.

    Raises:
        ValueError: There is no picture.
    """
    if not rows or not rows[0]:
        raise ValueError("a grid needs at least one row with at least one picture")
    cells = [[_fit(image, max_side) for _, image in row] for row in rows]
    widths = [max(row[column].width for row in cells if column < len(row)) for column in range(len(rows[0]))]
    heights = [max(cell.height for cell in row) for row in cells]
    width = sum(widths) + MARGIN * (len(widths) + 1)
    font = ImageFont.load_default(size=14)
    titles = [_wrapped(title, column, font) for (title, _), column in zip(rows[0], widths, strict=True)]
    title_height = TITLE_HEIGHT + _LINE * max(title.count("\n") for title in titles)
    height = title_height + sum(heights) + MARGIN * (len(heights) + 1)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    lefts = [MARGIN + sum(widths[:column]) + MARGIN * column for column in range(len(widths))]
    for title, left, column_width in zip(titles, lefts, widths, strict=True):
        center = (left + column_width // 2, title_height // 2 + 3)
        draw.multiline_text(center, title, INK, font, anchor="mm", align="center", spacing=2)
    top = title_height + MARGIN
    for row, row_height in zip(cells, heights, strict=True):
        for cell, left in zip(row, lefts, strict=False):
            sheet.paste(cell, (left, top))
        top += row_height + MARGIN
    return sheet


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """Text with its words on lines that fit into ``width`` pixels; a longer word has a line of its own."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)


def _fit(image: np.ndarray, max_side: int) -> Image.Image:
    picture = Image.fromarray(image)
    times = max_side // max(picture.size)
    if times > 1:
        return picture.resize((picture.width * times, picture.height * times), Image.Resampling.BICUBIC)
    picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return picture
