import math

import numpy as np
import pytest
import torch
from helpers.pixel_loops import looped_blur, looped_sample

from lit_ghibli.painter.filters import blur, pixel_grid
from lit_ghibli.painter.flow import Flow, flow
from lit_ghibli.painter.kuwahara import CENTRE, NEIGHBOR, RINGS, SECTORS, SPREAD, kuwahara


def noise(*shape: int, dtype=torch.float64) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def uniform_flow(degrees: float, anisotropy: float, height: int, width: int) -> Flow:
    angle = math.radians(degrees)
    along = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64).view(1, 2, 1, 1)
    return Flow(
        along.expand(1, 2, height, width),
        torch.full((1, 1, height, width), anisotropy, dtype=torch.float64),
        torch.ones(1, 1, height, width, dtype=torch.float64),
    )


def looped(picture: np.ndarray, along: np.ndarray, anisotropy: np.ndarray, radius: float, sharpness: float, stretch):
    """The definition: every sector is a mixture of Gaussians, of which the calmest count most."""
    channels, height, width = picture.shape
    blurred = looped_blur(np.concatenate([picture, picture**2]), SPREAD * radius)
    result = np.zeros_like(picture)
    for row in range(height):
        for column in range(width):
            longer = 1 + anisotropy[row, column] / stretch
            cos, sin = along[:, row, column]
            total, weights = np.zeros(channels), 0.0
            for sector in range(SECTORS):
                points = [(0.0, 0.0, CENTRE)]
                for turn, share in ((-1, NEIGHBOR), (0, 1.0), (1, NEIGHBOR)):
                    angle = 2 * math.pi * (sector + turn) / SECTORS
                    for ring, weight in RINGS:
                        u, v = ring * radius * longer * math.cos(angle), ring * radius / longer * math.sin(angle)
                        points.append((u * cos - v * sin, u * sin + v * cos, share * weight))
                moments = sum(
                    weight * looped_sample(blurred, column + dx, row + dy) for dx, dy, weight in points
                ) / sum(weight for *_, weight in points)
                variance = (moments[channels:] - moments[:channels] ** 2).sum()
                weight = 1 / (1 + (255**2 * max(variance, 0)) ** (sharpness / 2))
                total += weight * moments[:channels]
                weights += weight
            result[:, row, column] = total / weights
    return result


@pytest.mark.parametrize(("radius", "sharpness", "stretch"), [(2.5, 8.0, 1.0), (3.5, 1.5, 0.7)])
def test_every_pixel_is_that_of_the_definition(radius, sharpness, stretch):
    picture = noise(1, 3, 12, 12)
    forms = flow(picture, 1.0)
    expected = looped(
        picture[0].numpy(), forms.along[0].numpy(), forms.anisotropy[0, 0].numpy(), radius, sharpness, stretch
    )
    filtered = kuwahara(picture, forms, radius, sharpness, stretch)
    np.testing.assert_allclose(filtered[0].numpy(), expected, rtol=0, atol=1e-9)
    single = kuwahara(picture.float(), Flow(*(part.float() for part in forms)), radius, sharpness, stretch)
    np.testing.assert_allclose(single[0].numpy(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("level", [0.0, 0.37, 1.0])
def test_a_constant_stays(level):
    picture = torch.full((1, 3, 20, 15), level)
    torch.testing.assert_close(kuwahara(picture, flow(picture, 2.0), 4.0, 8.0), picture, rtol=0, atol=1e-6)


def steepest(picture: torch.Tensor) -> float:
    """The largest change from pixel to pixel along the middle row."""
    return picture[0, 0, picture.shape[-2] // 2].diff().max().item()


def between(picture: torch.Tensor) -> int:
    """How many pixels of the middle row lie on the way from 0.2 to 0.8."""
    row = picture[0, 0, picture.shape[-2] // 2]
    return int(((row > 0.21) & (row < 0.79)).sum())


def step(softness: float) -> torch.Tensor:
    picture = torch.full((1, 3, 30, 40), 0.2)
    picture[..., 20:] = 0.8
    return blur(picture, softness)


@pytest.mark.parametrize(("softness", "clear"), [(0.0, 3), (1.5, 7)])
def test_both_sides_of_a_step_keep_their_colors(softness, clear):
    picture = step(softness)
    filtered = kuwahara(picture, flow(picture, 2.0), 3.0, 8.0)
    for side in (slice(None, 20 - clear), slice(20 + clear, None)):
        torch.testing.assert_close(filtered[..., side], picture[..., side], rtol=0, atol=1e-3)


def test_a_sharp_step_is_two_pixels_wide():
    picture = step(0.0)
    filtered = kuwahara(picture, flow(picture, 2.0), 3.0, 8.0)
    assert between(filtered) == 2, "of the blur that a sector has"
    assert between(blur(picture, 1.5)) == 6, "what a blur of the ellipse's size makes of it"


@pytest.mark.parametrize("softness", [1.5, 2.5])
def test_a_soft_step_becomes_harder_and_no_wider(softness):
    picture = step(softness)
    filtered = kuwahara(picture, flow(picture, 2.0), 4.0, 8.0)
    assert steepest(filtered) > 1.2 * steepest(picture)
    assert between(filtered) <= between(picture)


@pytest.mark.parametrize(("degrees", "stretch"), [(0, 1.0), (30, 1.0), (115, 0.5)])
def test_an_ellipse_has_the_axes_of_its_flow(degrees, stretch):
    size, radius, anisotropy = 121, 10.0, 0.5
    impulse = torch.zeros(1, 1, size, size, dtype=torch.float64)
    impulse[..., size // 2, size // 2] = 1
    # Where the calmest sector wins nothing, the filter is a plain mean over the ellipse.
    response = kuwahara(impulse, uniform_flow(degrees, anisotropy, size, size), radius, 0.0, stretch)
    x, y = (axis[0] - size // 2 for axis in pixel_grid(impulse))
    angle = math.radians(degrees)
    share = sum(weight * ring**2 for ring, weight in RINGS) * (1 + 2 * NEIGHBOR)
    share /= CENTRE + sum(weight for _, weight in RINGS) * (1 + 2 * NEIGHBOR)
    longer = 1 + anisotropy / stretch
    for axis, along in (
        (radius * longer, x * math.cos(angle) + y * math.sin(angle)),
        (radius / longer, y * math.cos(angle) - x * math.sin(angle)),
    ):
        spread = (response[0, 0] * along**2).sum() / response.sum()
        # Points on an ellipse have half the square of its axis as their variance; reading between pixels adds up to
        # 1/4, and the cut Gaussian lacks a few percent.
        assert spread.item() == pytest.approx(share * axis**2 / 2 + (SPREAD * radius) ** 2, abs=0.4)


def test_a_quarter_turn_of_the_picture_turns_the_result():
    picture = noise(1, 3, 16, 21)
    turned = picture.rot90(1, (-2, -1))
    expected = kuwahara(picture, flow(picture, 1.5), 2.5, 8.0).rot90(1, (-2, -1))
    torch.testing.assert_close(kuwahara(turned, flow(turned, 1.5), 2.5, 8.0), expected, rtol=0, atol=1e-8)


def test_specks_on_a_flat_area_fade():
    generator = torch.Generator().manual_seed(0)
    picture = torch.full((1, 3, 48, 48), 0.5)
    specks = torch.rand(1, 1, 48, 48, generator=generator) < 0.02
    picture = torch.where(specks, torch.ones(()), picture)
    filtered = kuwahara(picture, flow(picture, 2.0), 3.0, 8.0)
    assert filtered.std() < 0.2 * picture.std()
