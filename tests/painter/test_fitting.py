import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate

from lit_ghibli.commands.style import painter_words
from lit_ghibli.errors import UserError
from lit_ghibli.painter.fitting import Look, as_config, fit, look, require_palette, verdict
from lit_ghibli.painter.oklab import from_oklab, to_oklab
from lit_ghibli.painter.painter import Painter
from lit_ghibli.painter.palette import HueBand, Palette
from lit_ghibli.recipes import build_painter, compose

GREEN, TEAL = 2.5, 2.8  # hues
PLAIN = Palette(1.0, 0.0, 1.0, 10.0, [], (0.0, 0.0), (0.0, 0.0))


@pytest.fixture(scope="module")
def painter() -> Painter:
    return build_painter()


def smooth(generator: torch.Generator, channels: int) -> torch.Tensor:
    coarse = torch.rand(1, channels, 7, 9, generator=generator)
    return F.interpolate(coarse, size=(60, 80), mode="bilinear")


def photographs(count: int = 6) -> list[torch.Tensor]:
    """Pictures of moderate lightness whose colors lie about green, and some about blue."""
    generator = torch.Generator().manual_seed(0)
    pictures = []
    for number in range(count):
        lightness = 0.25 + 0.5 * smooth(generator, 1)
        chroma = 0.03 + 0.04 * smooth(generator, 1)
        hue = (GREEN if number % 3 else -1.6) + 0.4 * (smooth(generator, 1) - 0.5)
        lab = torch.cat([lightness, chroma * hue.cos(), chroma * hue.sin()], dim=1)
        pictures.append(from_oklab(lab))
    return pictures


def recolored(palette: Palette) -> list[torch.Tensor]:
    return [from_oklab(palette(to_oklab(photo))) for photo in photographs()]


def fitted(painter: Painter, paintings: list[torch.Tensor]) -> Palette:
    photos = look(photographs(), painter)
    return fit(painter, look(paintings, painter), photos, photos.ink).palette


def test_the_same_pictures_need_no_change(painter):
    palette = fitted(painter, photographs())
    assert palette.gamma == pytest.approx(1, abs=1e-4)
    assert palette.chroma == pytest.approx(1, abs=1e-4)
    assert palette.lift == 0
    assert all(abs(band.chroma) < 1e-4 for band in palette.bands)
    assert max(map(abs, (*palette.shadow, *palette.light))) < 1e-6


@pytest.mark.parametrize("gamma", [0.75, 1.2])
def test_gamma_is_recovered(painter, gamma):
    palette = fitted(painter, recolored(replace(PLAIN, gamma=gamma)))
    assert palette.gamma == pytest.approx(gamma, abs=0.02)
    assert palette.lift < 0.01


@pytest.mark.parametrize("gamma", [0.85, 1.0])
def test_a_lighter_black_is_told_from_a_lighter_picture(painter, gamma):
    palette = fitted(painter, recolored(replace(PLAIN, gamma=gamma, lift=0.1)))
    assert palette.gamma == pytest.approx(gamma, abs=0.03)
    assert palette.lift == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("chroma", [0.6, 1.3])
def test_chroma_is_recovered(painter, chroma):
    assert fitted(painter, recolored(replace(PLAIN, chroma=chroma))).chroma == pytest.approx(chroma, abs=0.06)


def test_a_turn_of_hues_is_recovered(painter):
    turned = replace(PLAIN, bands=[HueBand(GREEN, math.pi / 8, TEAL, 0.9, 0.0)])
    palette = fitted(painter, recolored(turned))
    color = torch.tensor([0.5, 0.06 * math.cos(GREEN), 0.06 * math.sin(GREEN)]).view(1, 3, 1, 1)
    _, a, b = palette(color).flatten().tolist()
    assert GREEN + 0.08 < math.atan2(b, a) < TEAL + 0.05
    blue = torch.tensor([0.5, 0.06 * math.cos(-1.6), 0.06 * math.sin(-1.6)]).view(1, 3, 1, 1)
    _, a, b = palette(blue).flatten().tolist()
    assert math.atan2(b, a) == pytest.approx(-1.6, abs=0.15)


def test_a_tint_of_the_shadows_is_half_taken(painter):
    palette = fitted(painter, recolored(replace(PLAIN, shadow=(0.03, -0.03))))
    assert palette.shadow[0] > 0.002
    assert palette.shadow[1] < -0.002


def test_stronger_outlines_are_drawn_stronger(painter):
    photos = look(photographs(), painter)
    more, less = (fit(painter, replace(photos, ink=ink), photos, 0.1).outlines.opacity for ink in (0.11, 0.05))
    assert 0.2 <= less < painter.outlines.opacity < more <= 0.95


def test_pictures_of_one_color_are_refused(painter):
    red = torch.tensor([0.8, 0.2, 0.2]).view(1, 3, 1, 1).expand(1, 3, 60, 80)
    with pytest.raises(UserError, match="of one color"):
        require_palette(look([red, red], painter))


def test_grey_pictures_are_noted_and_leave_no_hues(painter):
    grey = [photo.mean(1, keepdim=True).expand_as(photo) for photo in photographs()]
    photos, paintings = look(photographs(), painter), look(grey, painter)
    assert "grey" in verdict(paintings, photos)
    palette = fit(painter, paintings, photos, photos.ink).palette
    assert palette.chroma == pytest.approx(0, abs=0.02)
    assert palette.bands == []


def test_photographs_are_not_taken_for_paintings(painter):
    photos = look(photographs(), painter)
    assert "are they paintings?" in verdict(photos, photos)
    assert verdict(replace(photos, flat=photos.flat + 0.2), replace(photos, flat=photos.flat)) is None


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_black_and_white_pictures_have_a_look(painter, level):
    seen = look([torch.full((1, 3, 9, 12), level)], painter)
    assert isinstance(seen, Look)
    assert all(math.isfinite(value) for value in (seen.lightness, seen.chroma, *seen.shares, *seen.hues, seen.ink))


def test_a_fitted_painter_is_the_same_one_from_the_words_of_a_training(painter):
    photos = look(photographs(), painter)
    wanted = fit(painter, look(recolored(replace(PLAIN, gamma=0.8, chroma=0.7)), painter), photos, photos.ink)
    config = compose("train", ["experiment=style", "data.root=/x", *painter_words(as_config(wanted))])
    made = instantiate(config.data.painter, _convert_="object")
    assert made.outlines == wanted.outlines
    photo = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(made.paint(photo), wanted.paint(photo))
