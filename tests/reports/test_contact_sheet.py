import numpy as np
import pytest
from PIL import Image

from lit_ghibli.reports.contact_sheet import COLUMNS, SIDE, Entry, contact_sheet, thumbnail

RED, BLUE = (220, 30, 30), (30, 40, 220)


def entry(width=400, height=300, name="a.jpg", note="structure 0.9"):
    return Entry(Image.new("RGB", (width, height), RED), Image.new("RGB", (width, height), BLUE), name, note)


def area(sheet, color):
    return (np.asarray(sheet) == color).all(axis=2).sum()


def test_every_pair_is_drawn_whole_and_reduced_to_one_side():
    sheet = contact_sheet("kept", [entry(), entry(300, 400), entry(52, 26), entry()])
    expected = 3 * SIDE * (SIDE * 3 // 4) + 52 * 26  # small pictures are not enlarged
    assert area(sheet, RED) == area(sheet, BLUE) == expected


def test_pictures_of_a_pair_stand_side_by_side_and_pairs_in_columns():
    sheet = np.asarray(contact_sheet("kept", [entry(208, 104)] * (COLUMNS + 1)))
    rows, columns = np.nonzero((sheet == RED).all(axis=2))
    assert len(set(columns)) == COLUMNS * SIDE
    assert len(set(rows)) == 2 * 104
    first_red, first_blue = (np.nonzero((sheet == color).all(axis=2))[1].min() for color in (RED, BLUE))
    assert SIDE < first_blue - first_red < SIDE + 8


def test_each_pair_has_its_text_below():
    blank, named = (contact_sheet("t", [entry(208, 104, name, "")]) for name in ("", "a.jpg"))
    differing = np.nonzero((np.asarray(blank) != np.asarray(named)).any(axis=2))[0]
    bottom = np.nonzero((np.asarray(named) == RED).all(axis=2))[0].max()
    assert bottom < differing.min()
    assert differing.max() < bottom + 20


def test_text_too_long_for_its_place_leaves_the_next_pair_alone():
    wide, plain = (contact_sheet("t", [entry(208, 104, name), entry(208, 104)]) for name in ("x" * 500, ""))
    differing = np.nonzero((np.asarray(wide) != np.asarray(plain)).any(axis=2))[1]
    second_pair = wide.width // 2
    assert SIDE < differing.max() < second_pair


def test_a_pair_without_pictures_still_has_a_place():
    sheet = contact_sheet("dropped", [Entry(None, None, "broken.jpg", "unreadable:\nis empty"), entry()])
    alone = contact_sheet("dropped", [entry()])
    assert sheet.height == alone.height
    assert area(sheet, RED) == area(alone, RED)


def test_thumbnails_leave_the_picture_as_it_was():
    picture = Image.new("RGB", (500, 100))
    assert thumbnail(picture).size == (SIDE, 42)
    assert picture.size == (500, 100)


def test_a_sheet_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet("kept", [])
