from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_ghibli.data.image_files import open_image
from lit_ghibli.data.region_masks import load_regions
from lit_ghibli.errors import UserError

RED, BLUE, BLACK, WHITE = (255, 0, 0), (0, 0, 255), (0, 0, 0), (255, 255, 255)


def mask(path: Path, *rows: list[tuple[int, int, int]]) -> Path:
    Image.fromarray(np.array(rows, np.uint8)).save(path)
    return path


def regions_of(*files: Path) -> list[list]:
    """Of masks that have the shape of their pictures."""
    sizes = [open_image(file).size for file in files]
    pictures = [torch.empty(1, 3, 3 * height, 3 * width) for width, height in sizes]
    return [regions.squeeze(1).tolist() for regions in load_regions(files, pictures)]


def test_gray_levels_are_light_and_dark_in_part(tmp_path):
    content = mask(tmp_path / "a.png", [(0, 0, 0), (51, 51, 51), (255, 255, 255)])
    style = mask(tmp_path / "b.png", [(255, 255, 255)], [(0, 0, 0)])
    ours, theirs = regions_of(content, style)
    np.testing.assert_allclose(ours, [[[0, 0.2, 1]], [[1, 0.8, 0]]], atol=1e-6)
    assert theirs == [[[1], [0]], [[0], [1]]]


def test_a_content_that_is_light_alone_has_one_region(tmp_path):
    white = mask(tmp_path / "a.png", [WHITE, WHITE])
    assert regions_of(white, mask(tmp_path / "b.png", [WHITE, BLACK])) == [[[[1, 1]]], [[[1, 0]]]]


def test_colors_are_paired_with_themselves_and_what_the_style_has_besides_is_left_out(tmp_path):
    content = mask(tmp_path / "a.png", [RED, BLUE, RED])
    ours, theirs = regions_of(content, mask(tmp_path / "b.png", [BLACK, RED], [BLUE, BLUE]))
    assert ours == [[[0, 1, 0]], [[1, 0, 1]]]  # blue is the first number
    assert theirs == [[[0, 0], [1, 1]], [[0, 1], [0, 0]]]


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ([RED, BLUE], [RED, WHITE], r"b\.png has nothing #0000ff, which .*a\.png has"),
        ([WHITE, BLACK], [WHITE, WHITE], r"b\.png has nothing dark"),
        ([(i, 0, 0) for i in range(9)], [RED] * 9, r"a\.png has 9 colors"),
    ],
)
def test_regions_without_a_partner_are_told(tmp_path, ours, theirs, said):
    with pytest.raises(UserError, match=said):
        regions_of(mask(tmp_path / "a.png", ours), mask(tmp_path / "b.png", theirs))


def test_a_mask_of_another_shape_is_told(tmp_path):
    file = mask(tmp_path / "a.png", [WHITE, BLACK])
    with pytest.raises(UserError, match=r"a\.png is 2x1, its picture 40x30"):
        load_regions([file], [torch.empty(1, 3, 30, 40)])
