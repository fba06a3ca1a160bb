import numpy as np
import pytest
from PIL import Image

from lit_ghibli.data.image_files import UnsuitablePicture
from lit_ghibli.data.transforms import (
    Edges,
    Grayscale,
    Half,
    LowResolution,
    Posterize,
    Resize,
)
from lit_ghibli.errors import UserError


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_halves_are_the_halves():
    pixels = np.asarray(noise(12, 7))
    for side, expected in (("left", pixels[:, :6]), ("right", pixels[:, 6:])):
        assert np.array_equal(np.asarray(Half(side, 1.5)(Image.fromarray(pixels))), expected)


@pytest.mark.parametrize(("width", "height"), [(13, 6), (31, 10), (12, 12), (13, 13)])
def test_what_is_no_pair_is_refused(width, height):
    with pytest.raises(UnsuitablePicture, match=f"is {width}x{height}"):
        Half("left", 1.5)(noise(width, height))


@pytest.mark.parametrize(("width", "height"), [(12, 9), (18, 6), (16, 8)])
def test_halves_up_to_the_aspect_are_accepted(width, height):
    assert Half("left", 1.5)(noise(width, height)).size == (width // 2, height)


def test_gray_is_the_luma_in_all_channels():
    image = noise(9, 5)
    gray = np.asarray(Grayscale()(image)).astype(float)
    luma = np.asarray(image).astype(float) @ [0.299, 0.587, 0.114]
    assert gray.shape == (5, 9, 3)
    for channel in range(3):
        assert np.abs(gray[:, :, channel] - luma).max() <= 0.51  # rounded


def test_edges_are_black_lines_where_brightness_changes():
    pixels = np.full((40, 40, 3), 230, dtype=np.uint8)
    pixels[:, 20:] = 20
    drawn = np.asarray(Edges(sigma=2.0)(Image.fromarray(pixels)))
    assert set(np.unique(drawn)) == {0, 255}
    columns = {int(column) for column in np.nonzero((drawn == 0).any(axis=(0, 2)))[0]}
    assert columns
    assert columns <= {19, 20}
    flat = np.full((40, 40, 3), 90, dtype=np.uint8)
    assert (np.asarray(Edges(sigma=2.0)(Image.fromarray(flat))) == 255).all()


def test_larger_sigmas_keep_fewer_lines():
    lines = [(np.asarray(Edges(sigma=sigma)(noise(64, 64))) == 0).sum() for sigma in (1.0, 4.0)]
    assert lines[1] < lines[0]


def test_low_resolution_keeps_size_and_mean_and_loses_detail():
    image = noise(64, 32)
    low = LowResolution(factor=4)(image)
    assert low.size == image.size
    before, after = np.asarray(image).astype(float), np.asarray(low).astype(float)
    assert abs(before.mean() - after.mean()) < 2
    assert after.std() < 0.5 * before.std()
    blocks = np.kron(np.random.default_rng(1).integers(0, 256, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    kept = np.asarray(LowResolution(factor=2)(Image.fromarray(blocks))).astype(float)
    assert np.abs(kept - blocks)[2:6, 2:6].max() <= 16, "large flat areas survive"


def test_posterize_leaves_two_to_the_bits_levels():
    levels = np.unique(np.asarray(Posterize(bits=2)(noise(64, 64))))
    assert levels.tolist() == [0, 64, 128, 192]


@pytest.mark.parametrize(("width", "height"), [(64, 48), (48, 64), (30, 30), (300, 20), (7, 5)])
def test_an_area_keeps_the_aspect_and_has_about_as_many_pixels_as_the_square(width, height):
    resized = Resize(24, "area")(noise(width, height))
    # Sides of the same ratio whose product is 24 * 24, each rounded by half a pixel at most.
    assert abs(resized.width - 24 * (width / height) ** 0.5) <= 0.5
    assert abs(resized.height - 24 * (height / width) ** 0.5) <= 0.5


def test_an_area_leaves_a_side_of_one_pixel_at_least():
    assert Resize(4, "area")(noise(2000, 2)).size == (126, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Resize(8, "crop"), "data.resize must be squash, short_side or area; got 'crop'"),
        (lambda: Resize(0, "squash"), "got 0"),
        (lambda: LowResolution(1), "data.derive.factor must be a whole number, at least 2; got 1"),
        (lambda: LowResolution(2.5), "got 2.5"),
        (lambda: Edges(sigma=-1), "data.derive.sigma must be more than 0 pixels; got -1"),
        (lambda: Posterize(0), "data.derive.bits must be a whole number, 1 ... 8; got 0"),
    ],
)
def test_wrong_values_are_named(make, message):
    with pytest.raises(UserError) as caught:
        make()
    assert message in str(caught.value)


def test_every_value_is_part_of_the_name_in_the_cache():
    assert repr(Resize(8, "squash")) == "Resize(size=8, mode='squash')"
    assert repr(Half("left", 1.5)) != repr(Half("right", 1.5))
    assert repr(LowResolution(2)) != repr(LowResolution(4))
