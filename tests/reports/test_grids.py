import numpy as np
import pytest
from PIL import Image

from lit_ghibli.reports.grids import labelled_grid

GREEN = (10, 200, 30)


def flat(height: int, width: int, color=GREEN) -> np.ndarray:
    return np.full((height, width, 3), color, dtype=np.uint8)


def places(grid: Image.Image, color) -> tuple[int, int, int, int]:
    """First column, first row, last column, last row of a color."""
    rows, columns = np.nonzero((np.asarray(grid) == color).all(axis=2))
    return columns.min(), rows.min(), columns.max(), rows.max()


def test_sheet_and_places_by_hand():
    red, blue = (200, 0, 0), (0, 0, 200)
    rows = [
        [("a", flat(100, 150)), ("b", flat(120, 180, red))],
        [("a", flat(140, 110, blue)), ("b", flat(130, 160))],
    ]
    grid = labelled_grid(rows, max_side=199)
    # Columns 150 and 180 wide, rows 120 and 140 high; margins of 6 around and between, 22 for the titles.
    assert grid.size == (6 + 150 + 6 + 180 + 6, 22 + 6 + 120 + 6 + 140 + 6)
    assert places(grid, red) == (6 + 150 + 6, 28, 6 + 150 + 6 + 179, 28 + 119)
    assert places(grid, blue) == (6, 28 + 120 + 6, 6 + 109, 28 + 120 + 6 + 139)
    assert np.asarray(grid)[:22].min() < 150, "there are titles"
    assert (np.asarray(grid)[:, :6] == 255).all()


def test_long_titles_take_as_many_lines_as_their_columns_are_narrow():
    rows = [[("equal time CycleGAN", flat(96, 96)), ("input", flat(96, 96))]]
    grid = labelled_grid(rows, max_side=96)
    assert grid.size == (6 + 96 + 6 + 96 + 6, 22 + 16 + 6 + 96 + 6)
    title = np.asarray(grid)[: 22 + 16].min(axis=(0, 2))
    assert (title[6 + 96 : 6 + 96 + 6] == 255).all(), "no title reaches into the next column"


def test_large_pictures_are_scaled_down_with_their_aspect():
    grid = labelled_grid([[("a", flat(100, 400))]], max_side=200)
    assert grid.size == (200 + 12, 22 + 50 + 12)


def test_the_pictures_are_the_callers():
    noise = np.random.default_rng(0).integers(0, 256, (150, 150, 3), dtype=np.uint8)
    grid = np.asarray(labelled_grid([[("a", noise)]], max_side=256))
    assert np.array_equal(grid[28:178, 6:156], noise)


def test_columns_of_one_title_stay_apart():
    grid = labelled_grid([[("a", flat(100, 100)), ("a", flat(100, 100, (200, 0, 0)))]], max_side=100)
    assert places(grid, GREEN)[2] < places(grid, (200, 0, 0))[0]


def test_a_row_may_end_early():
    grid = labelled_grid([[("a", flat(100, 100)), ("b", flat(100, 100))], [("a", flat(100, 100))]], max_side=150)
    assert grid.size == (218, 22 + 218)


@pytest.mark.parametrize("rows", [[], [[]]])
def test_nothing_to_draw_is_refused(rows):
    with pytest.raises(ValueError, match="at least one picture"):
        labelled_grid(rows, max_side=100)
