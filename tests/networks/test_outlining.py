import math

import pytest
import torch

from lit_ghibli.errors import UserError
from lit_ghibli.networks.outlining import Ink
from lit_ghibli.networks.outputs import OutputLayer
from lit_ghibli.networks.resnet import ResnetGenerator


def test_lines_lie_on_the_dark_side_of_edges_and_nowhere_else():
    photo = torch.full((1, 3, 64, 96), 0.6)
    photo[..., 48:] = -0.2
    ink = Ink(0.9)(photo)
    assert ink.shape == (1, 1, 64, 96)
    assert ink[..., 48].min() > 0.9
    assert ink[..., :47].max() == 0
    assert ink[..., 54:].max() == 0
    assert Ink(0.9)(torch.full((1, 3, 32, 32), 0.3)).max() == 0


@pytest.mark.parametrize("width", [0.6, 1.5])
def test_pixels_further_away_than_the_context_do_not_matter(width):
    ink = Ink(width)
    photo = torch.rand(1, 3, 2 * ink.context + 9, 2 * ink.context + 9) * 2 - 1
    middle = slice(ink.context, -ink.context)
    other = -photo
    other[..., 2:-2, 2:-2] = photo[..., 2:-2, 2:-2]  # differs where it is at least the context away from the middle's
    inner = slice(ink.context + 2, -ink.context - 2)
    assert not torch.equal(ink(other), ink(photo))
    torch.testing.assert_close(ink(other)[..., inner, inner], ink(photo)[..., inner, inner])
    assert ink(photo)[..., middle, middle].max() > 0


def test_outlines_are_drawn_as_dark_as_the_last_channel_says_over_what_is_painted():
    layer = OutputLayer("residual", 3, 3, outlines=0.9)
    photo = torch.rand(2, 3, 40, 40) * 2 - 1
    values = torch.randn(2, 4, 40, 40)
    assert layer.channels == 4
    expected = photo + values[:, :3] + values[:, 3:] * Ink(0.9)(photo)
    torch.testing.assert_close(layer(values, photo), expected)
    assert OutputLayer("luminance", 3, 3, outlines=0.9).channels == 2


def test_training_starts_from_the_photograph_and_can_learn_to_draw():
    network = ResnetGenerator(base_channels=4, num_blocks=1, output="residual", outlines=0.6)
    photo = torch.rand(1, 3, 48, 48) * 2 - 1
    assert torch.equal(network(photo), photo)
    network(photo).sum().backward()
    assert network.decoder.head.weight.grad[3].abs().sum() > 0


def test_tiles_know_how_far_outlines_look():
    plain, drawing = (ResnetGenerator(output="residual", outlines=width) for width in (0, 0.6))
    assert drawing.context == plain.context + Ink(0.6).context


def test_precision_is_the_pictures_own():
    photo = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16):
        assert Ink(0.9)(photo.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("width", [-1.0, math.nan])
def test_a_width_that_is_none_is_refused(width):
    with pytest.raises(UserError, match="outlines must be a width in pixels"):
        ResnetGenerator(output="residual", outlines=width)


def test_a_picture_that_is_painted_anew_gets_none():
    with pytest.raises(UserError, match=r"outlines=0\.6 for output='tanh'"):
        ResnetGenerator(outlines=0.6)
