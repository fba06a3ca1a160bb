import pytest
import torch

from lit_ghibli.data.image_files import FolderError
from lit_ghibli.data.single_pictures import load_pictures, match_colors, resize, scaled_size
from lit_ghibli.images import to_uint8


def noise(height, width, seed=0):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def colors(picture):
    return picture.double().flatten(2)[0]


def test_pictures_are_read_in_range(pictures):
    first, second = load_pictures(pictures[:2])
    assert (first.shape, second.shape) == ((1, 3, 32, 48), (1, 3, 40, 40))
    assert first.dtype == torch.float32
    assert -1 <= first.min() < -0.2 < 0.2 < first.max() <= 1


def test_every_bad_file_is_named(pictures, tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(FolderError, match=r"(?s)2 of 3 pictures.*nowhere\.png.*empty\.png"):
        load_pictures(["nowhere.png", pictures[0], tmp_path / "empty.png"])


@pytest.mark.parametrize(
    ("long_side", "scale", "expected"),
    [
        (None, 1.0, (30, 50)),
        (0, 1.0, (30, 50)),
        (100, 1.0, (60, 100)),
        (10, 0.5, (3, 5)),
        (None, 2, (60, 100)),
        (5, 0.1, (1, 1)),
    ],
)
def test_sizes_keep_the_aspect(long_side, scale, expected):
    assert scaled_size(noise(30, 50), long_side, scale) == expected
    assert scaled_size(noise(50, 30), long_side, scale) == expected[::-1]


def test_resizing_keeps_constants_and_right_sizes():
    picture = noise(12, 9)
    assert resize(picture, (12, 9)) is picture
    torch.testing.assert_close(resize(torch.full((1, 3, 12, 9), 0.25), (5, 20)), torch.full((1, 3, 5, 20), 0.25))
    fine = (torch.arange(64) % 2 * 2.0 - 1).expand(1, 3, 64, 64)
    assert resize(fine, (16, 16))[..., 2:-2].abs().max() < 0.05, "without antialiasing one of the two levels is left"


def test_matched_colors_have_mean_and_covariance_of_the_reference():
    picture = (noise(20, 30) * torch.tensor([0.2, 1.0, 0.5]).view(3, 1, 1)).roll(1, 1) + 0.1
    reference = noise(15, 11, seed=1)
    reference[:, 0] = 0.5 * reference[:, 1] + 0.3
    matched = match_colors(picture, reference)
    assert matched.shape == picture.shape
    torch.testing.assert_close(colors(matched).mean(1), colors(reference).mean(1), rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.cov(colors(matched)), torch.cov(colors(reference)), rtol=0, atol=1e-6)


def test_a_picture_matched_with_itself_stays():
    picture = noise(20, 30)
    assert (to_uint8(match_colors(picture, picture)).int() - to_uint8(picture).int()).abs().max() <= 1


def test_pictures_of_few_colors_stay_finite():
    grey, flat = noise(20, 30)[:, :1].expand(-1, 3, -1, -1), torch.full((1, 3, 8, 8), 0.3)
    for picture in (grey, flat):
        for reference in (grey, flat, noise(9, 9)):
            matched = match_colors(picture, reference)
            assert matched.isfinite().all()
            torch.testing.assert_close(colors(matched).mean(1), colors(reference).mean(1), rtol=0, atol=1e-6)
