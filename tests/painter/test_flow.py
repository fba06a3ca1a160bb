import math

import numpy as np
import pytest
import torch

from lit_ghibli.painter.filters import blur, derivatives, pixel_grid
from lit_ghibli.painter.flow import flow, unrest


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def outer(along: torch.Tensor) -> torch.Tensor:
    """A direction without its sign, which means nothing."""
    return torch.stack([along[:, 0] ** 2, along[:, 0] * along[:, 1], along[:, 1] ** 2], dim=1)


@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 120, 170])
def test_forms_of_a_plane_wave_run_along_its_crests(degrees):
    angle = math.radians(degrees)
    x, y = pixel_grid(torch.zeros(1, 1, 48, 48, dtype=torch.float64))
    wave = torch.sin(0.3 * (math.cos(angle) * x + math.sin(angle) * y))[None]
    found = flow(wave, 3.0)
    inside = (..., slice(12, -12), slice(12, -12))
    crests = torch.tensor([-math.sin(angle), math.cos(angle)], dtype=torch.float64).view(1, 2, 1, 1)
    assert (found.along * crests).sum(1, keepdim=True)[inside].abs().min() > 0.9999
    assert found.anisotropy[inside].min() > 0.999
    # The mean of the squared derivative of a sine, which has the amplitude 0.3 less what central differences lose.
    assert found.energy[inside].mean().item() == pytest.approx(0.3**2 / 2, rel=0.05)


def test_a_constant_has_no_direction_and_no_energy():
    found = flow(torch.full((2, 3, 9, 7), 0.4), 2.0)
    assert found.anisotropy.abs().max() == 0
    assert found.energy.abs().max() == 0
    torch.testing.assert_close(found.along.norm(dim=1), torch.ones(2, 9, 7))


def test_directions_and_energies_are_eigenvectors_and_eigenvalues():
    picture = noise(1, 3, 8, 9)
    found = flow(picture, 0.8)
    dx, dy = derivatives(picture)
    products = torch.cat([dx * dx, dx * dy, dy * dy]).sum(1)
    xx, xy, yy = blur(products[None], 0.8)[0].numpy()
    values, vectors = np.linalg.eigh(np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -1))
    np.testing.assert_allclose(found.energy[0, 0].numpy(), values[..., 1], rtol=1e-10)
    np.testing.assert_allclose(
        found.anisotropy[0, 0].numpy(), (values[..., 1] - values[..., 0]) / values.sum(-1), rtol=0, atol=1e-10
    )
    least = torch.from_numpy(vectors[..., 0]).permute(2, 0, 1)[None]
    torch.testing.assert_close(outer(found.along), outer(least), rtol=0, atol=1e-9)


def test_a_quarter_turn_of_the_picture_turns_the_flow():
    picture = noise(1, 3, 11, 14)
    found, turned = flow(picture, 1.5), flow(picture.rot90(1, (-2, -1)), 1.5)
    along_x, along_y = found.along.rot90(1, (-2, -1)).unbind(1)
    torch.testing.assert_close(outer(turned.along), outer(torch.stack([along_y, -along_x], 1)), rtol=0, atol=1e-10)
    for name in ("anisotropy", "energy"):
        torch.testing.assert_close(getattr(turned, name), getattr(found, name).rot90(1, (-2, -1)), rtol=1e-10, atol=0)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 9)])
def test_tiny_pictures_have_a_flow(size):
    found = flow(noise(1, 3, *size), 2.0)
    assert all(part.isfinite().all() and part.shape[-2:] == size for part in found)


@pytest.mark.parametrize(("slope", "unit"), [(0.001, 1.0), (0.01, 1.0), (0.002, 3.0)])
def test_unrest_is_that_of_the_slope(slope, unit):
    ramp = slope * pixel_grid(torch.zeros(1, 1, 90, 300, dtype=torch.float64))[0][None].expand(1, 3, 90, 300)
    inside = unrest(flow(ramp, 2.0), 0.004, unit)[..., 60:-60]
    change = math.sqrt(3) * slope * unit  # of three channels
    torch.testing.assert_close(inside, torch.full_like(inside, (change / (change + 0.004)) ** 2))
    assert unrest(flow(0 * ramp, 2.0), 0.004).eq(0.01).all()
