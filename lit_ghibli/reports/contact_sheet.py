"""Pairs of pictures on one sheet, each with its caption."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from lit_ghibli.reports.grids import INK, MARGIN, PAPER

COLUMNS = 3
SIDE = 208  # pixels that the longer side of a picture is reduced to

_FAINT = (120, 120, 120)
_NOTHING = (232, 232, 232)
_SPACE = 18  # pixels between pairs, more than within them
_LINE = 17  # pixels from one line of text to the next
_GAP = 2  # pixels between the two pictures of a pair
_CELL = 2 * SIDE + _GAP


@dataclass
class Entry:
    """A pair on a sheet.

    Attributes:
        left: RGB picture of any size; None where there is none.
        right: RGB picture, likewise.
        name: First line below them.
        note: Second line.
    """

    left: Image.Image | None
    right: Image.Image | None
    name: str
    note: str


def thumbnail(image: Image.Image) -> Image.Image:
    """A copy that fits into half of a cell, so that a sheet's entries need not hold full-size pictures."""
    reduced = image.copy()
    reduced.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return reduced


def contact_sheet(title: str, entries: Sequence[Entry]) -> Image.Image:
    """Draw pairs in `COLUMNS` columns below a title, each with its two lines of text.

    Raises:
        ValueError: There is no entry.
    """
    if not entries:
        raise ValueError("a contact sheet needs at least one entry")
    cells = [_cell(entry) for entry in entries]
    rows = [cells[first : first + COLUMNS] for first in range(0, len(cells), COLUMNS)]
    columns = min(COLUMNS, len(entries))
    width = columns * _CELL + (columns + 1) * _SPACE
    height = _LINE + _SPACE + sum(max(cell.height for cell in row) + _SPACE for row in rows) + _SPACE
    sheet = Image.new("RGB", (width, height), PAPER)
    font = ImageFont.load_default(16)
    ImageDraw.Draw(sheet).text((_SPACE, MARGIN), _shortened(title, width - 2 * _SPACE, font), INK, font)
    top = _LINE + 2 * _SPACE
    for row in rows:
        for column, cell in enumerate(row):
            sheet.paste(cell, (_SPACE + column * (_CELL + _SPACE), top))
        top += max(cell.height for cell in row) + _SPACE
    return sheet


def _cell(entry: Entry) -> Image.Image:
    """Both pictures side by side, their tops aligned, and the text directly below."""
    pictures = [thumbnail(image) if image else _blank() for image in (entry.left, entry.right)]
    height = max(picture.height for picture in pictures)
    cell = Image.new("RGB", (_CELL, height + 2 * _LINE + MARGIN), PAPER)
    cell.paste(pictures[0], (0, 0))
    cell.paste(pictures[1], (pictures[0].width + _GAP, 0))
    draw, font = ImageDraw.Draw(cell), ImageFont.load_default(13)
    for number, (text, ink) in enumerate(((entry.name, INK), (entry.note, _FAINT))):
        draw.text((0, height + 3 + number * _LINE), _shortened(text, _CELL, font), ink, font)
    return cell


def _blank() -> Image.Image:
    """What stands for a picture that is not there."""
    return Image.new("RGB", (SIDE, SIDE // 2), _NOTHING)


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """Text on one line, its end cut until it fits into ``width`` pixels."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
