import numpy as np
import pytest
import torch
from helpers.pixel_loops import looped_blur, looped_sample

from lit_ghibli.painter.filters import blur, derivatives, pixel_grid, sample


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.4, 1.3])
@pytest.mark.parametrize("size", [(9, 11), (2, 3), (1, 1), (1, 6)])
def test_blur_is_the_gaussian_with_mirrored_borders(size, sigma):
    pictures = noise(2, 3, *size)
    blurred = blur(pictures, sigma)
    assert blurred.shape == pictures.shape
    for picture, result in zip(pictures, blurred, strict=True):
        np.testing.assert_allclose(result.numpy(), looped_blur(picture.numpy(), sigma), rtol=0, atol=1e-12)
    torch.testing.assert_close(blur(pictures.float(), sigma).double(), blurred, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.7, 5.0])
def test_a_constant_stays_under_any_blur(sigma):
    picture = torch.full((1, 2, 7, 5), 0.3)
    torch.testing.assert_close(blur(picture, sigma), picture, rtol=0, atol=1e-6)


def test_a_blur_of_no_width_changes_nothing_and_none_changes_its_argument():
    picture = noise(1, 3, 8, 8)
    before = picture.clone()
    assert torch.equal(blur(picture, 0.0), before)
    blur(picture, 2.0)
    assert torch.equal(picture, before)


def test_derivatives_of_a_ramp_are_its_slopes_and_half_of_them_across_a_border():
    x, y = pixel_grid(torch.zeros(1, 1, 6, 9, dtype=torch.float64))
    dx, dy = derivatives((0.25 * x - 0.75 * y + 2)[None])
    slope_x, slope_y = torch.full((1, 1, 6, 9), 0.25).double(), torch.full((1, 1, 6, 9), -0.75).double()
    slope_x[..., [0, -1]] /= 2
    slope_y[..., [0, -1], :] /= 2
    torch.testing.assert_close(dx, slope_x, rtol=0, atol=1e-14)
    torch.testing.assert_close(dy, slope_y, rtol=0, atol=1e-14)


def test_derivatives_are_scharrs():
    picture = noise(1, 1, 3, 3)
    kernel = torch.tensor([[-3.0, 0, 3], [-10, 0, 10], [-3, 0, 3]], dtype=torch.float64) / 32
    dx, dy = derivatives(picture)
    assert dx[0, 0, 1, 1].item() == pytest.approx((kernel * picture[0, 0]).sum().item(), abs=1e-14)
    assert dy[0, 0, 1, 1].item() == pytest.approx((kernel.T * picture[0, 0]).sum().item(), abs=1e-14)


def test_a_single_pixel_has_no_derivative():
    assert all(d.shape == (1, 1, 1, 1) and d.item() == 0 for d in derivatives(torch.ones(1, 1, 1, 1)))


def test_pixels_read_at_their_places_are_themselves():
    picture = noise(2, 3, 5, 7)
    x, y = pixel_grid(picture)
    torch.testing.assert_close(sample(picture, x.expand(2, -1, -1), y.expand(2, -1, -1)), picture, rtol=0, atol=1e-13)


def test_half_way_between_pixels_is_their_mean():
    picture = noise(1, 3, 5, 7)
    x, y = pixel_grid(picture)
    beside = sample(picture, x + 0.5, y)[..., :-1]
    torch.testing.assert_close(beside, (picture[..., :-1] + picture[..., 1:]) / 2, rtol=0, atol=1e-13)
    below = sample(picture, x, y + 0.5)[..., :-1, :]
    torch.testing.assert_close(below, (picture[..., :-1, :] + picture[..., 1:, :]) / 2, rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", [(5, 7), (2, 3), (1, 1)])
def test_anywhere_else_is_bilinear_and_outside_is_the_border(size):
    picture = noise(1, 3, *size)
    x, y = (noise(1, 4, 6, seed=seed) * (side + 6) - 3 for seed, side in ((1, size[1]), (2, size[0])))
    read = sample(picture, x, y)
    assert read.shape == (1, 3, 4, 6)
    for row in range(4):
        for column in range(6):
            expected = looped_sample(picture[0].numpy(), x[0, row, column].item(), y[0, row, column].item())
            np.testing.assert_allclose(read[0, :, row, column].numpy(), expected, rtol=0, atol=1e-12)
