import math

import pytest
import torch

from lit_ghibli.painter.filters import pixel_grid
from lit_ghibli.painter.flow import Flow, flow
from lit_ghibli.painter.outlines import along_flow, outlines

SETTINGS = {"width": 1.0, "threshold": 0.006, "gain": 20.0, "length": 6.0, "crowding": 1.0}


def ink(picture: torch.Tensor, **changes: float) -> torch.Tensor:
    return outlines(picture, flow(picture, 2.0), **SETTINGS | changes)


def step(edge: int = 24, dark: float = 0.2, bright: float = 0.8) -> torch.Tensor:
    picture = torch.full((1, 3, 48, 48), bright)
    picture[..., :edge] = dark
    return picture


@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_a_constant_gets_no_ink(level):
    assert ink(torch.full((1, 3, 20, 30), level)).abs().max() == 0


def test_the_line_of_a_step_lies_on_its_dark_side():
    laid = ink(step())
    assert laid.shape == (1, 1, 48, 48)
    assert laid[..., 24:].max() == 0
    assert laid[..., 22:24].min() > 0.5
    assert laid[..., :16].max() == 0


def test_a_line_is_as_wide_across_as_down():
    picture = step()
    torch.testing.assert_close(ink(picture.mT), ink(picture).mT, rtol=0, atol=1e-5)


@pytest.mark.parametrize("width", [0.8, 1.6])
def test_wider_lines_cover_more(width):
    assert ink(step(), width=2 * width, crowding=0.0).sum() > 1.5 * ink(step(), width=width, crowding=0.0).sum()


def test_contrast_counts_and_not_brightness():
    plain, dimmed = step(dark=0.2, bright=0.8), step(dark=0.05, bright=0.35)
    # (0.35 + 0.1) / (0.05 + 0.1) and (0.8 + 0.1) / (0.2 + 0.1) are the same ratio.
    torch.testing.assert_close(ink(dimmed), ink(plain), rtol=0, atol=1e-4)


def test_drops_below_the_threshold_are_no_lines():
    assert ink(step(dark=0.79)).max() == 0
    assert ink(step(), threshold=1.0).max() == 0
    assert ink(step(), gain=2.0).sum() < ink(step()).sum()


def test_crowded_lines_fade_and_a_single_one_hardly_does():
    crowded = step()
    crowded[..., (torch.arange(48) // 3) % 2 == 0] = 0.2
    crowded[..., (torch.arange(48) // 3) % 2 == 1] = 0.8
    left = [(ink(picture).sum() / ink(picture, crowding=0.0).sum()).item() for picture in (crowded, step())]
    assert left[0] < 0.5
    assert left[1] > 0.8


def uniform_flow(degrees: float, size: int) -> Flow:
    along = torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]).view(1, 2, 1, 1)
    return Flow(along.expand(1, 2, size, size), torch.ones(1, 1, size, size), torch.ones(1, 1, size, size))


@pytest.mark.parametrize("degrees", [0, 90, 45])
def test_smoothing_is_a_gaussian_along_the_flow_and_none_across(degrees):
    impulse = torch.zeros(1, 1, 31, 31)
    impulse[..., 15, 15] = 1
    smooth = along_flow(impulse, uniform_flow(degrees, 31), 6)
    x, y = (axis[0] - 15 for axis in pixel_grid(impulse))
    angle = math.radians(degrees)
    weights = [math.exp(-0.5 * (step / 3) ** 2) for step in range(-6, 7)]
    spread = sum(weight * step**2 for weight, step in zip(weights, range(-6, 7), strict=True)) / sum(weights)
    along = (smooth[0, 0] * (x * math.cos(angle) + y * math.sin(angle)) ** 2).sum()
    across = (smooth[0, 0] * (y * math.cos(angle) - x * math.sin(angle)) ** 2).sum()
    assert smooth.sum().item() == pytest.approx(1, abs=1e-4)
    # Reading between pixels adds a quarter at most.
    assert along.item() == pytest.approx(spread, abs=0.26)
    assert across.item() < 0.26
    line = {0: smooth[0, 0, 15], 90: smooth[0, 0, :, 15]}.get(degrees)
    if line is not None:
        assert line[9:22].tolist() == pytest.approx([weight / sum(weights) for weight in weights], abs=1e-5)


def test_a_direction_and_its_opposite_are_the_same_form():
    picture = torch.rand(1, 1, 21, 21, generator=torch.Generator().manual_seed(0))
    straight = uniform_flow(0, 21)
    # Rows, which are not read across here, that run to the right and to the left
    signs = torch.where(torch.arange(21) % 2 == 0, 1.0, -1.0).view(1, 1, 21, 1)
    mixed = Flow(straight.along * signs, *straight[1:])
    torch.testing.assert_close(along_flow(picture, mixed, 5), along_flow(picture, straight, 5), rtol=0, atol=1e-5)
    halves = torch.where(torch.arange(21) < 10, 1.0, -1.0).view(1, 1, 1, 21)
    mixed = Flow(straight.along * halves, *straight[1:])
    torch.testing.assert_close(along_flow(picture, mixed, 5), along_flow(picture, straight, 5), rtol=0, atol=1e-5)
