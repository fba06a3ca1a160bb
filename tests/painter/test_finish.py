import numpy as np
import pytest
import torch

from lit_ghibli.painter.filters import blur
from lit_ghibli.painter.finish import Finish, in_steps
from lit_ghibli.painter.oklab import to_oklab
from lit_ghibli.painter.painter import Outlines
from lit_ghibli.recipes import build_painter

BARE = Finish(None)


@pytest.fixture(scope="module")
def outlines() -> Outlines:
    return build_painter("meadow").outlines


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def step(height: int = 48, width: int = 60) -> torch.Tensor:
    return torch.where(torch.arange(width) < width // 2, 0.25, 0.75).expand(1, 3, height, width)


@pytest.mark.parametrize("size", [(40, 60), (8, 8), (1, 1), (3, 200), (1, 7)])
@pytest.mark.parametrize("level", [0.0, 0.47, 1.0])
def test_a_grey_picture_stays_what_it_is(outlines, level, size):
    finished = Finish(outlines)(torch.full((1, 3, *size), level))
    torch.testing.assert_close(finished, torch.full((1, 3, *size), level), atol=2e-3, rtol=0)


def test_texture_goes_and_a_step_stays():
    texture = noise(1, 3, 48, 60) * 0.03 - 0.015
    flat = BARE(step() + texture)
    inside = (..., [*range(5, 25), *range(35, 55)])
    assert flat.diff(dim=-1)[..., 5:24].abs().mean() < 0.1 * texture.diff(dim=-1).abs().mean()
    assert (flat - step())[inside].abs().max() < 0.06  # half a step of lightness, and what it amounts to in sRGB
    assert (flat[..., 30] - flat[..., 29]).min() > 0.4


def test_a_sky_gets_no_bands():
    sky = torch.linspace(0.4, 0.6, 200)[:, None].expand(1, 3, 200, 60)
    inside = BARE(sky)[..., 40:-40, :]  # its ends are joined
    assert inside.diff(dim=-2).abs().max() < 2.5 * 0.2 / 199


def test_what_is_out_of_focus_gets_edges():
    blurred = blur(step(64, 96), 10.0)
    before, after = (to_oklab(picture)[0, 0, 32].diff() for picture in (blurred, BARE(blurred)))
    assert after.abs().max() > 2.5 * before.abs().max()
    steepest = [change.abs().sort(descending=True).values[:8].sum() / change.abs().sum() for change in (before, after)]
    assert steepest[1] > 1.5 * steepest[0], "and fills between them"


def test_outlines_lie_on_the_dark_side_of_a_contour_and_nowhere_else(outlines):
    bare, drawn = BARE(step()), Finish(outlines)(step())
    darker = (bare - drawn).mean((0, 1, 2))
    assert darker[26:30].max() > 0.05
    assert darker[torch.arange(60).sub(29).abs() > 6].abs().max() < 1e-3
    assert darker.min() > -1e-5


def test_steps_are_those_of_the_formula():
    lightness = torch.linspace(0, 1, 1001, dtype=torch.float64)
    expected = np.round(lightness.numpy() * 10) / 10
    expected = expected + 0.05 * np.tanh(80 * (lightness.numpy() - expected))
    np.testing.assert_allclose(in_steps(lightness).numpy(), expected, atol=1e-12)
    assert in_steps(lightness).diff().min() >= 0, "what is lighter stays lighter"


def test_pictures_of_a_batch_are_finished_each_as_alone(outlines):
    pictures = torch.cat([noise(1, 3, 24, 32), step(24, 32)])
    alone = torch.cat([Finish(outlines)(picture[None]) for picture in pictures])
    assert torch.equal(Finish(outlines)(pictures), alone)
