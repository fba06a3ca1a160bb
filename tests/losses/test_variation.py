import pytest
import torch

from lit_ghibli.losses.variation import total_variation


def test_a_checkerboard_has_the_largest_value():
    board = torch.ones(1, 1, 5, 8)
    board[..., ::2, ::2] = board[..., 1::2, 1::2] = -1
    assert total_variation(board) == 4 + 4  # every pair of neighbours differs by 2, both ways


def test_a_constant_image_has_none():
    assert total_variation(torch.full((2, 3, 4, 5), 0.7)) == 0


def test_a_vertical_edge_counts_once_per_row_of_horizontal_pairs():
    image = torch.zeros(1, 3, 4, 6)
    image[..., 2:] = 1
    assert total_variation(image).item() == pytest.approx(1 / 5)


def test_agrees_with_a_loop_in_float64():
    images = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    values = images.double().numpy()
    vertical = [(values[n, c, y + 1, x] - values[n, c, y, x]) ** 2 for n, c, y, x in positions(2, 3, 3, 5)]
    horizontal = [(values[n, c, y, x + 1] - values[n, c, y, x]) ** 2 for n, c, y, x in positions(2, 3, 4, 4)]
    expected = sum(vertical) / len(vertical) + sum(horizontal) / len(horizontal)
    assert total_variation(images).item() == pytest.approx(expected, rel=1e-6)


def positions(*shape):
    return torch.cartesian_prod(*map(torch.arange, shape)).tolist()


def test_its_gradient_pulls_a_lone_pixel_towards_its_neighbours():
    image = torch.zeros(1, 1, 3, 3)
    image[..., 1, 1] = 1
    (gradient,) = torch.autograd.grad(total_variation(image.requires_grad_()), image)
    assert gradient[0, 0, 1, 1].item() == pytest.approx(2 * 2 / 6 + 2 * 2 / 6)  # six pairs either way, two of them here
    assert gradient[0, 0, 0, 1].item() == pytest.approx(-2 / 6)
    assert gradient[0, 0, 0, 0] == 0
