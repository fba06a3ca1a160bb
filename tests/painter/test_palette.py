import math
from dataclasses import replace

import pytest
import torch

from lit_ghibli.painter.palette import HueBand, Palette

IDENTITY = Palette(gamma=1.0, lift=0.0, chroma=1.0, chroma_limit=1e3, bands=(), shadow=(0.0, 0.0), light=(0.0, 0.0))


def colors(lightness: float, chroma: float, *hues: float) -> torch.Tensor:
    """A row of OKLab pixels."""
    rows = [[lightness, chroma * math.cos(hue), chroma * math.sin(hue)] for hue in hues]
    return torch.tensor(rows, dtype=torch.float64).T.reshape(1, 3, 1, len(hues))


def hue(lab: torch.Tensor) -> torch.Tensor:
    return torch.atan2(lab[:, 2], lab[:, 1]).flatten()


def chroma(lab: torch.Tensor) -> torch.Tensor:
    return torch.hypot(lab[:, 1], lab[:, 2]).flatten()


def test_a_palette_that_asks_for_nothing_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    lab = torch.rand(2, 3, 9, 7, generator=generator, dtype=torch.float64)
    lab[:, 1:] = 0.6 * lab[:, 1:] - 0.3
    before = lab.clone()
    torch.testing.assert_close(IDENTITY(lab), before, rtol=0, atol=1e-7)
    replace(IDENTITY, gamma=0.7, chroma=2.0, light=(0.1, 0.1))(lab)
    assert torch.equal(lab, before)


@pytest.mark.parametrize(("centre", "target"), [(1.95, 2.2), (-1.75, -1.85), (3.0, -3.0), (-3.1, 3.1)])
@pytest.mark.parametrize("saturation", [0.05, 0.2])
def test_the_centre_of_a_band_turns_by_its_pull_the_shorter_way(centre, target, saturation):
    band = HueBand(hue=centre, width=0.3, target=target, pull=0.7, chroma=0.4)
    changed = replace(IDENTITY, bands=[band])(colors(0.6, saturation, centre))
    way = (target - centre + math.pi) % (2 * math.pi) - math.pi
    certain = saturation / (saturation + 0.02)
    turned = (hue(changed).item() - centre + math.pi) % (2 * math.pi) - math.pi
    assert turned == pytest.approx(0.7 * certain * way, abs=1e-9)
    assert chroma(changed).item() == pytest.approx(saturation * (1 + 0.4 * certain), rel=1e-6)
    assert changed[0, 0].item() == 0.6


def test_a_band_falls_off_as_a_gaussian_and_draws_each_hue_towards_its_target():
    band = HueBand(hue=1.0, width=0.25, target=1.4, pull=0.5, chroma=0.0)
    hues = [0.5, 0.75, 1.0, 1.25, 1.5, -1.5]
    changed = hue(replace(IDENTITY, bands=[band])(colors(0.5, 0.18, *hues)))
    for before, after in zip(hues, changed.tolist(), strict=True):
        share = 0.18 / 0.2 * math.exp(-0.5 * ((before - 1.0) / 0.25) ** 2)
        assert after == pytest.approx(before + 0.5 * share * (1.4 - before), abs=1e-9)


def test_a_band_goes_on_where_angles_begin_anew():
    banded = replace(IDENTITY, bands=[HueBand(hue=3.0, width=0.25, target=3.0, pull=0.0, chroma=1.0)])
    across, within = chroma(banded(colors(0.5, 0.1, 3.2 - 2 * math.pi, 2.8))).tolist()
    assert across == pytest.approx(within, rel=1e-9)
    assert within > 0.15


def test_no_chroma_passes_the_limit_and_small_ones_hardly_notice_it():
    limited = replace(IDENTITY, chroma=1.5, chroma_limit=0.25)
    given = [0.01, 0.1, 0.2, 0.4, 2.0]
    result = [chroma(limited(colors(0.5, value, 0.8))).item() for value in given]
    assert result == pytest.approx([0.25 * math.tanh(1.5 * value / 0.25) for value in given])
    assert max(result) <= 0.25
    assert result[0] == pytest.approx(0.015, rel=2e-3)
    assert result == sorted(result)


def test_greys_stay_grey_where_there_are_no_tints():
    bands = [HueBand(0.0, 0.5, 1.0, 1.0, 2.0), HueBand(3.0, 1.0, -1.0, 1.0, 1.0)]
    greys = torch.zeros(1, 3, 1, 5, dtype=torch.float64)
    greys[:, 0] = torch.linspace(0, 1, 5)
    changed = replace(IDENTITY, chroma=3.0, gamma=0.8, lift=0.1, bands=bands)(greys)
    assert changed[:, 1:].abs().max() == 0


def test_lightness_is_raised_to_gamma_above_the_lift():
    changed = replace(IDENTITY, gamma=0.5, lift=0.1)(torch.cat([colors(value, 0.0, 0.0) for value in (0, 0.25, 1)], -1))
    assert changed[0, 0, 0].tolist() == pytest.approx([0.1, 0.1 + 0.9 * 0.5, 1.0])


def test_tints_are_those_of_shadow_and_light():
    tinted = replace(IDENTITY, shadow=(0.02, -0.04), light=(-0.01, 0.03))
    changed = tinted(torch.cat([colors(value, 0.0, 0.0) for value in (0, 0.5, 1)], -1))
    assert changed[0, 1, 0].tolist() == pytest.approx([0.02, 0.02 / 4 - 0.01 / 8, -0.01])
    assert changed[0, 2, 0].tolist() == pytest.approx([-0.04, -0.04 / 4 + 0.03 / 8, 0.03])
