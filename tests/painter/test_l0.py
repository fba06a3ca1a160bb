import numpy as np
import pytest
import torch

from lit_ghibli.painter.l0 import l0_smooth


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def step(height: int, width: int) -> torch.Tensor:
    picture = torch.full((1, 3, height, width), 0.2, dtype=torch.float64)
    picture[..., width // 2 :] = 0.8
    return picture


def dense(picture: np.ndarray, weight: np.ndarray, growth: float, beta_max: float) -> np.ndarray:
    """Algorithm 1 of the paper for (C, H, W), with matrices in place of Fourier transforms."""
    channels, height, width = picture.shape
    count = height * width
    numbers = np.arange(count).reshape(height, width)
    to_right, to_below = (np.zeros((count, count)) for _ in range(2))
    for row in range(height):
        for column in range(width):
            here = numbers[row, column]
            to_right[here, numbers[row, (column + 1) % width]] += 1
            to_below[here, numbers[(row + 1) % height, column]] += 1
            to_right[here, here] -= 1
            to_below[here, here] -= 1
    given = picture.reshape(channels, count).T
    smooth = given
    beta = 2 * weight.max()
    while beta < beta_max:
        h, v = to_right @ smooth, to_below @ smooth
        dropped = (h**2 + v**2).sum(1) < weight.reshape(count) / beta
        h[dropped], v[dropped] = 0, 0
        smooth = np.linalg.solve(
            np.eye(count) + beta * (to_right.T @ to_right + to_below.T @ to_below),
            given + beta * (to_right.T @ h + to_below.T @ v),
        )
        beta *= growth
    return smooth.T.reshape(channels, height, width)


@pytest.mark.parametrize("weights", [(0.02, 0.02), (0.005, 0.08)])
def test_the_result_is_that_of_the_papers_algorithm(weights):
    picture = 0.4 * noise(1, 3, 6, 10)
    weight = torch.linspace(*weights, 60, dtype=torch.float64).view(1, 1, 6, 10)
    expected = dense(picture[0].numpy(), weight[0, 0].numpy(), 1.7, 1e4)
    smooth = l0_smooth(picture, weight, growth=1.7, beta_max=1e4)
    np.testing.assert_allclose(smooth[0].numpy(), expected, rtol=0, atol=1e-9)
    changes = np.abs(np.diff(smooth[0].numpy(), axis=-1)).max(0)
    assert 0.1 < (changes > 0.05).mean() < 0.9, "some changes are kept and others are not"


def test_a_map_of_one_value_is_that_number():
    picture = noise(2, 3, 20, 13)
    mapped = l0_smooth(picture, torch.full((2, 1, 20, 13), 0.03, dtype=torch.float64))
    torch.testing.assert_close(l0_smooth(picture, 0.03), mapped, rtol=0, atol=1e-7)


@pytest.mark.parametrize("size", [(12, 16), (37, 41), (1, 1), (2, 3)])
def test_a_constant_stays(size):
    picture = torch.full((1, 3, *size), 0.6)
    torch.testing.assert_close(l0_smooth(picture, 0.02), picture, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(24, 40), (67, 97)])
def test_a_large_step_keeps_its_height_and_small_noise_vanishes(size):
    clean = step(*size)
    noisy = clean + 0.01 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    smooth = l0_smooth(noisy, 0.01)
    for side in (slice(None, size[1] // 2), slice(size[1] // 2, None)):
        flat = smooth[..., side]
        assert (flat.mean() - clean[..., side].mean()).abs() < 1e-3
        assert flat.std((-2, -1)).max() < 1e-3, "of 1e-2"
        assert (flat[..., 5:-5, 5:-5].diff(dim=-1)).abs().max() < 1e-3


def test_changes_below_the_price_go_and_those_above_stay():
    prices = {}
    for height in (0.05, 0.3):
        picture = torch.full((1, 3, 8, 64), 0.4, dtype=torch.float64)
        picture[..., 32:] += height
        smooth = l0_smooth(picture, 0.02)
        prices[height] = (smooth[..., 40:56].mean() - smooth[..., 8:24].mean()).item()
    assert prices[0.05] < 0.01
    assert prices[0.3] == pytest.approx(0.3, abs=2e-3)


def test_the_price_is_that_of_the_place():
    """Texture of the same contrast goes on the left, where changes are dear, and stays on the right."""
    picture = 0.4 + 0.1 * ((torch.arange(64) // 4) % 2).double().expand(1, 3, 24, 64)
    weight = torch.full((1, 1, 24, 64), 1e-4, dtype=torch.float64)
    weight[..., :32] = 0.1
    smooth = l0_smooth(picture, weight)
    assert smooth[..., 4:24].std() < 0.1 * picture.std()
    assert smooth[..., 40:60].std() > 0.9 * picture.std()


@pytest.mark.parametrize("size", [(37, 41), (97, 8), (1, 29), (3, 211)])
def test_sizes_of_large_primes_keep_their_shape_and_argument(size):
    picture = noise(1, 3, *size)
    before = picture.clone()
    smooth = l0_smooth(picture, torch.full((1, 1, *size), 0.02, dtype=torch.float64))
    assert smooth.shape == picture.shape
    assert smooth.isfinite().all()
    assert torch.equal(picture, before)
