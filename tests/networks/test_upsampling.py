import math

import pytest
import torch

from lit_ghibli.networks.upsampling import bilinear_upsample

PLACES = {
    "legacy": lambda d, n: d / 2,
    "half_pixel": lambda d, n: (d + 0.5) / 2 - 0.5,
    "align_corners": lambda d, n: d * (n - 1) / (2 * n - 1),
}


def looped(image, place):
    """A float64 image (H, W) at twice its size, position by position."""

    def neighbours(d, n):
        position = min(max(place(d, n), 0), n - 1)
        first = math.floor(position)
        return first, min(first + 1, n - 1), position - first

    height, width = image.shape
    result = torch.empty(2 * height, 2 * width, dtype=torch.float64)
    for y in range(2 * height):
        for x in range(2 * width):
            (top, bottom, down), (left, right, across) = neighbours(y, height), neighbours(x, width)
            upper = (1 - across) * image[top, left] + across * image[top, right]
            lower = (1 - across) * image[bottom, left] + across * image[bottom, right]
            result[y, x] = (1 - down) * upper + down * lower
    return result


@pytest.mark.parametrize("sampling", PLACES)
@pytest.mark.parametrize("size", [(3, 5), (4, 2), (1, 3)])
def test_values_lie_where_the_convention_says(sampling, size):
    torch.manual_seed(0)
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    result = bilinear_upsample(images, sampling)
    for image, channel in ((0, 1), (1, 2)):
        expected = looped(images[image, channel], PLACES[sampling])
        torch.testing.assert_close(result[image, channel], expected, rtol=0, atol=1e-14)


def test_legacy_keeps_even_positions_and_repeats_the_last():
    row = torch.tensor([[[[1.0, 3.0, 7.0]]]])
    assert bilinear_upsample(row, "legacy")[0, 0, 0].tolist() == [1, 2, 3, 5, 7, 7]


def test_gradients_of_legacy_are_those_of_the_means():
    row = torch.zeros(1, 1, 1, 3, dtype=torch.float64, requires_grad=True)
    (bilinear_upsample(row, "legacy") * torch.tensor([1.0, 10, 100, 1e3, 1e4, 1e5])).sum().backward()
    # Two equal output rows; output 1 is half of inputs 0 and 1, output 3 half of 1 and 2, output 5 input 2
    assert row.grad[0, 0, 0].tolist() == [2 * (1 + 5), 2 * (5 + 100 + 500), 2 * (500 + 1e4 + 1e5)]


def test_precision_is_kept():
    assert bilinear_upsample(torch.ones(1, 2, 4, 4, dtype=torch.bfloat16), "legacy").dtype == torch.bfloat16


def test_other_conventions_are_refused():
    with pytest.raises(ValueError, match="'nearest'"):
        bilinear_upsample(torch.zeros(1, 1, 2, 2), "nearest")
