import numpy as np
import pytest
import torch
from PIL import Image

from lit_ghibli.images import from_picture, from_uint8, luminance, to_picture, to_pixels, to_uint8, to_unit


def test_all_levels_survive_the_round_trip_and_lie_evenly_from_minus_one_to_one():
    levels = torch.arange(256, dtype=torch.uint8)
    images = from_uint8(levels)
    assert images.dtype == torch.float32
    expected = [level * 2 / 255 - 1 for level in range(256)]
    torch.testing.assert_close(images, torch.tensor(expected), rtol=0, atol=1e-6)
    assert to_uint8(images).tolist() == list(range(256))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_round_trip_in_other_precisions(dtype):
    levels = torch.arange(256, dtype=torch.uint8)
    assert to_uint8(from_uint8(levels).to(dtype)).tolist() == list(range(256))


def test_levels_are_rounded_to_the_nearest_and_clamped():
    step = 2 / 255
    values = torch.tensor([-1 + 0.49 * step, -1 + 0.51 * step, 1 - 0.49 * step, 1 - 0.51 * step, -1.7, 3.0])
    assert to_uint8(values).tolist() == [0, 1, 255, 254, 0, 255]
    assert to_uint8(torch.tensor([-0.5])).tolist() == [64]  # (0.5 / 2) * 255 = 63.75


def test_conversions_leave_their_argument_as_it_was():
    images = torch.tensor([-2.0, 0.5])
    to_uint8(images)
    to_unit(images)
    assert images.tolist() == [-2.0, 0.5]


def test_unit_range():
    assert to_unit(torch.tensor([-3.0, -1.0, 0.0, 0.5, 1.0, 7.0])).tolist() == [0, 0, 0.5, 0.75, 1, 1]


def test_luminance_by_hand():
    red, green, blue = torch.eye(3).view(3, 3, 1, 1)
    assert luminance(torch.stack([red, green, blue])).flatten().tolist() == pytest.approx([0.299, 0.587, 0.114])
    mixed = torch.tensor([0.5, -0.25, 1.0]).view(1, 3, 1, 1).expand(1, 3, 2, 5)
    out = luminance(mixed)
    assert out.shape == (1, 1, 2, 5)
    assert out.flatten().tolist() == pytest.approx([0.5 * 0.299 - 0.25 * 0.587 + 0.114] * 10)
    grey = torch.full((1, 3, 1, 1), -0.3)
    assert luminance(grey).item() == pytest.approx(-0.3)


def test_pictures_and_tensors_turn_into_each_other():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    images = from_picture(Image.fromarray(pixels))
    assert images.shape == (1, 3, 5, 7)
    assert images[0, 2, 4, 6].item() == pytest.approx(pixels[4, 6, 2] / 127.5 - 1)
    assert torch.equal(from_picture(pixels), images)
    assert np.array_equal(to_pixels(images), pixels)
    picture = to_picture(images)
    assert (picture.mode, picture.size) == ("RGB", (7, 5))
    assert np.array_equal(np.asarray(picture), pixels)


def test_the_first_of_a_batch_is_the_picture():
    images = torch.stack([torch.full((3, 2, 4), value) for value in (-1.0, 1.0)])
    assert (to_pixels(images) == 0).all()
    assert (to_pixels(images[1]) == 255).all()
    assert np.array_equal(np.asarray(to_picture(images)), np.zeros((2, 4, 3)))
