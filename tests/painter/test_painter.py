from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from lit_ghibli.errors import UserError
from lit_ghibli.images import from_picture, to_unit
from lit_ghibli.painter.oklab import to_oklab
from lit_ghibli.painter.painter import Painter
from lit_ghibli.recipes import build_painter
from lit_ghibli.scenes.scene import render_pair

STYLES = ["meadow", "ink", "evening"]


@pytest.fixture(scope="module", params=STYLES)
def painter(request: pytest.FixtureRequest) -> Painter:
    return build_painter(request.param)


@pytest.fixture(scope="module")
def meadow() -> Painter:
    return build_painter("meadow")


def photograph(size: int) -> torch.Tensor:
    return to_unit(from_picture(render_pair(0, 0, size)[0]))


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def mean_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one - other).abs().mean().item()


def test_pictures_have_the_shape_and_range_of_photographs(painter):
    photos = torch.cat([photograph(64), noise(1, 3, 64, 64)])
    before = photos.clone()
    pictures = painter.paint(photos)
    assert pictures.shape == photos.shape
    assert pictures.min() >= 0
    assert pictures.max() <= 1 + 1e-6
    assert torch.equal(photos, before)
    assert mean_difference(pictures, photos) > 0.02


@pytest.mark.parametrize("size", [(40, 60), (8, 8), (1, 1), (3, 200), (1, 7)])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_grey_photograph_becomes_one_color(painter, level, size):
    picture = painter.paint(torch.full((1, 3, *size), level))
    assert picture.isfinite().all()
    assert (picture - picture[..., :1, :1]).abs().max() < 1e-5


def test_greys_become_brighter_where_they_were(painter):
    levels = [painter.paint(torch.full((1, 3, 8, 8), level)).mean().item() for level in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert levels == sorted(levels)
    assert levels[0] < 0.02
    assert levels[-1] > 0.9


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (3, 200), (2, 1)])
def test_tiny_and_narrow_pictures_are_painted(painter, size):
    picture = painter.paint(noise(1, 3, *size))
    assert picture.shape == (1, 3, *size)
    assert picture.isfinite().all()


def test_strokes_are_as_large_as_the_picture(painter):
    photo = photograph(200)  # of smaller ones, lines are as thin as they may be
    larger = F.interpolate(photo, scale_factor=2, mode="bicubic").clamp(0, 1)
    painted = painter.paint(larger)
    enlarged = F.interpolate(painter.paint(photo), scale_factor=2, mode="bicubic").clamp(0, 1)
    assert mean_difference(painted, enlarged) < 0.3 * mean_difference(painted, larger)
    assert mean_difference(painted, enlarged) < 0.02


def test_pictures_of_a_batch_are_painted_each_as_alone(painter):
    photos = torch.cat([photograph(64), photograph(64).flip(-1).mT, noise(1, 3, 64, 64)])
    alone = torch.cat([painter.paint(photo[None]) for photo in photos])
    assert torch.equal(painter.paint(photos), alone)


def test_a_quarter_turn_of_the_photograph_turns_the_picture(painter):
    y, x = torch.meshgrid(torch.linspace(0, 1, 96), torch.linspace(0, 1, 128), indexing="ij")
    waves = (torch.sin(6 * x + 3 * y), torch.cos(5 * y - 2 * x), torch.sin(12 * x * y))
    photo = torch.stack([0.5 + 0.4 * wave for wave in waves])[None]
    turned = painter.paint(photo.rot90(1, (-2, -1))).rot90(-1, (-2, -1))
    inside = (..., slice(12, -12), slice(12, -12))
    picture = painter.paint(photo)
    assert mean_difference(turned[inside], picture[inside]) < 1e-3
    assert mean_difference(picture, photo) > 0.03


def flat_share(picture: torch.Tensor) -> float:
    """Share of neighbours that a level of 255 or less tells apart."""
    return (picture.diff(dim=-1).abs().amax(1) < 1 / 255).float().mean().item()


def test_texture_becomes_flat_and_a_contour_stays(painter):
    tones = torch.full((1, 3, 240, 320), 0.35)
    tones[..., 160:] = 0.65
    photo = tones + 0.02 * torch.randn(tones.shape, generator=torch.Generator().manual_seed(0))
    picture = painter.paint(photo)
    assert flat_share(photo) < 0.01
    assert flat_share(picture) > 0.95
    left, right = picture[..., 20:140], picture[..., 180:300]
    assert right.mean() - left.mean() > 0.2
    columns = picture.mean((0, 1, 2))
    assert columns[154:166].diff().max() > 0.5 * (right.mean() - left.mean())
    # What is dark beside a contour is the outline.
    assert columns[150:160].min() < left.mean() - 0.02


@pytest.mark.parametrize(("opacity", "darkness"), [(1.0, 0.4), (0.5, 0.0), (0.7, 0.3)])
def test_ink_darkens_what_lies_beneath_by_its_opacity_to_its_darkness(meadow, opacity, darkness):
    tones = torch.full((1, 3, 150, 200), 0.35)
    tones[..., 100:] = 0.65

    def lightness(opacity: float, darkness: float) -> torch.Tensor:
        lines = replace(meadow.outlines, opacity=opacity, darkness=darkness, width=1.5)
        return to_oklab(replace(meadow, outlines=lines).paint(tones))[:, :1]

    bare, black, inked = lightness(0.0, 0.0), lightness(1.0, 0.0), lightness(opacity, darkness)
    assert (bare - black).max() > 0.2
    # Tints of what is nearly black lie outside of sRGB, where they are cut.
    torch.testing.assert_close(bare - inked, opacity * (1 - darkness) * (bare - black), rtol=0, atol=5e-3)


def test_lines_of_small_pictures_are_no_thinner_than_can_be_seen(meadow):
    photo = F.interpolate(photograph(64), (48, 64))  # a tenth of the size that widths are told for

    def painted(width: float) -> torch.Tensor:
        return replace(meadow, outlines=replace(meadow.outlines, width=width)).paint(photo)

    thinnest = painted(6.0)
    assert torch.equal(painted(0.1), thinnest)
    assert torch.equal(painted(5.9), thinnest)
    assert mean_difference(painted(7.5), thinnest) > 1e-3
    without = replace(meadow, outlines=replace(meadow.outlines, opacity=0.0)).paint(photo)
    assert mean_difference(thinnest, without) > 5e-3


def test_a_stroke_is_as_large_as_the_picture(meadow):
    strokes_alone = replace(
        meadow,
        strokes=replace(meadow.strokes, radius=12.0),
        fills=replace(meadow.fills, weight=1e-5),
        outlines=replace(meadow.outlines, opacity=0.0),
    )
    photo = photograph(96)
    larger = F.interpolate(photo, scale_factor=2, mode="bicubic").clamp(0, 1)
    enlarged = F.interpolate(strokes_alone.paint(photo), scale_factor=2, mode="bicubic").clamp(0, 1)
    assert mean_difference(strokes_alone.paint(larger), enlarged) < 0.007


def test_dense_texture_is_smoothed_more_where_its_factor_says_so(meadow):
    meadow = replace(meadow, outlines=replace(meadow.outlines, opacity=0.0))
    photo = 0.5 + 0.15 * torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    spreads = [
        replace(meadow, fills=replace(meadow.fills, texture=factor)).paint(photo.clamp(0, 1)).std().item()
        for factor in (0.0, 20.0)
    ]
    assert spreads[1] < 0.8 * spreads[0]


def test_a_calm_sky_keeps_its_gradient(painter):
    sky = torch.linspace(0.5, 0.7, 240).view(1, 1, 240, 1).expand(1, 3, 240, 320)
    rows = painter.paint(sky).mean((0, 1, 3))[20:-20]
    assert rows.diff().min() > 0
    assert rows.diff().max() < 4 * rows.diff().mean()


def test_pixels_are_painted_as_unit_pictures_are(painter):
    pixels = render_pair(0, 1, 64)[0]
    picture = painter(Image.fromarray(pixels))
    assert (picture.mode, picture.size) == ("RGB", (64, 64))
    expected = painter.paint(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)
    levels = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
    torch.testing.assert_close(levels[None], expected, rtol=0, atol=0.51 / 255 + 1e-3)


RANGES = {
    "strokes": {"flow": (0.1, 20), "radius": (0.1, 50), "sharpness": (1, 16)},
    "fills": {"weight": (1e-5, 1), "growth": (1.1, 10), "calm": (1e-6, 1), "texture_contrast": (1e-6, 1)},
    "outlines": {"width": (0.1, 20), "darkness": (0, 1), "opacity": (0, 1)},
}


@pytest.mark.parametrize(
    ("part", "name", "low", "high"),
    [(part, name, *limits) for part, settings in RANGES.items() for name, limits in settings.items()],
)
def test_settings_beyond_their_ranges_are_refused(meadow, part, name, low, high):
    settings = getattr(meadow, part)
    for within in (low, high):
        assert getattr(replace(settings, **{name: within}), name) == within
    for beyond in (low - 1e-7, high + 1e-7, -high, float("nan"), float("inf")):
        with pytest.raises(UserError) as caught:
            replace(settings, **{name: beyond})
        assert str(caught.value) == f"painter.{part}.{name} must lie in {low:g} ... {high:g}; got {beyond}"


@pytest.mark.parametrize("extreme", [0, 1])
@pytest.mark.parametrize("part", list(RANGES))
def test_a_painter_of_extreme_settings_paints(meadow, part, extreme):
    changed = replace(getattr(meadow, part), **{name: limits[extreme] for name, limits in RANGES[part].items()})
    picture = replace(meadow, **{part: changed}).paint(photograph(32))
    assert picture.isfinite().all()
    assert picture.min() >= 0
    assert picture.max() <= 1 + 1e-6
