import pytest
import torch
import torch.nn.functional as F

from lit_ghibli.errors import UserError
from lit_ghibli.images import from_uint8, to_uint8, to_unit
from lit_ghibli.inference import painting
from lit_ghibli.inference.painting import Painting, enlarge
from lit_ghibli.inference.translator import Translator
from lit_ghibli.painter.oklab import to_oklab


def blobs(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """A smooth picture in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 8, generator=generator) * 1.6 - 0.8
    return F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(-1, 1)


class Watched:
    """A network that keeps the sizes that it is given, and darkens."""

    def __init__(self, by: float = 0.0) -> None:
        self.sizes, self.by = [], by

    def __call__(self, photo: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tuple(photo.shape[-2:]))
        return photo - self.by


# --- enlarging -----------------------------------------------------------------


@pytest.mark.parametrize("size", [(40, 64), (81, 33), (20, 20), (7, 100), (1, 1)])
def test_a_constant_stays_what_it_is(size):
    picture = torch.tensor([0.3, -0.7, 1.0]).view(1, 3, 1, 1).expand(1, 3, 20, 32)
    expected = picture[..., :1, :1].expand(1, 3, *size)
    torch.testing.assert_close(enlarge(picture, *size), expected, atol=1e-5, rtol=0)


def test_a_picture_of_the_right_size_is_left_alone():
    picture = blobs(24, 32)
    assert torch.equal(enlarge(picture, 24, 32), picture)


def ramp(row: torch.Tensor) -> int:
    """How many pixels of a row from -0.8 to 0.8 lie between the ends."""
    return int((row.abs() < 0.6).sum())


@pytest.mark.parametrize("turned", [False, True])
def test_a_step_becomes_narrower_than_with_bicubic_interpolation(turned):
    edge = torch.tensor([-0.8] * 10 + [-0.4, 0.4] + [0.8] * 10).expand(1, 3, 16, 22)
    ours, bicubic = enlarge(edge, 64, 88), F.interpolate(edge, size=(64, 88), mode="bicubic")
    if turned:
        ours = enlarge(edge.mT, 88, 64).mT
    assert 0 < ramp(ours[0, 0, 32]) < 0.7 * ramp(bicubic[0, 0, 32])
    middle = (ours[0, 0, 32, 43] + ours[0, 0, 32, 44]).abs()
    assert middle < 0.05, "and stays where it is"
    assert ours.abs().max() < 0.95, "without halos"


def test_strips_leave_no_seams(monkeypatch):
    picture = blobs(30, 40)
    whole = enlarge(picture, 150, 210)
    monkeypatch.setattr(painting, "_STRIP", 7)
    torch.testing.assert_close(enlarge(picture, 150, 210), whole, atol=1e-5, rtol=0)


def test_pictures_of_a_batch_are_enlarged_alike():
    pair = torch.cat([blobs(20, 24), blobs(20, 24, 1)])
    torch.testing.assert_close(enlarge(pair, 50, 60)[1:], enlarge(pair[1:], 50, 60))


@pytest.mark.parametrize("size", [(24, 32), (90, 70), (9, 11)])  # kept, enlarged in strips, reduced
@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_levels_become_those_of_the_painted_numbers(monkeypatch, size, strength):
    monkeypatch.setattr(painting, "_STRIP", 16)
    levels = to_uint8(blobs(*size))
    network = Painting(Watched(0.1), 24 * 32, strength=strength)
    painted = network(from_uint8(levels))
    assert torch.equal(network(levels), to_uint8(painted))
    pixels = levels[0].permute(1, 2, 0).numpy()
    assert torch.equal(torch.from_numpy(Translator(network)(pixels)), network(levels)[0].permute(1, 2, 0))


# --- painting ------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2), (8, 8), (13, 57), (96, 120)])
def test_every_size_is_kept_and_the_network_gets_multiples_of_four(size):
    network = Watched(0.1)
    picture = Painting(network, 48 * 64)(blobs(*size))
    assert picture.shape == (1, 3, *size)
    assert picture.isfinite().all()
    assert picture.abs().max() <= 1
    assert all(side % 4 == 0 for side in network.sizes[0])


@pytest.mark.parametrize("size", [(48, 64), (96, 128), (300, 400), (400, 300)])
def test_photographs_of_any_size_are_painted_at_one(size):
    network = Watched()
    Painting(network, 48 * 64)(blobs(*size))
    assert sorted(network.sizes[0]) == [48, 64]


def test_small_photographs_are_not_blown_up_without_end():
    network = Watched()
    Painting(network, 480 * 640)(blobs(12, 16))
    assert network.sizes == [(24, 32)]


def test_finer_strokes_are_painted_larger():
    network = Watched()
    for stroke in (0.5, 1, 2):
        Painting(network, 48 * 64, stroke=stroke)(blobs(192, 256))
    assert network.sizes == [(96, 128), (48, 64), (24, 32)]


def test_a_network_that_changes_nothing_gives_the_photograph():
    photo = blobs(48, 64)
    torch.testing.assert_close(Painting(lambda picture: picture, 48 * 64)(photo), photo)
    enlarged = Painting(lambda picture: picture, 48 * 64)(blobs(144, 192))
    assert (enlarged - blobs(144, 192)).abs().mean() < 0.02


def test_what_is_painted_is_finished():
    grey = Painting(Watched(), 48 * 64, lambda picture: 0 * picture + 0.25)(blobs(96, 128))
    torch.testing.assert_close(grey, torch.full((1, 3, 96, 128), -0.5))


def test_strength_blends_with_the_photograph():
    photo = blobs(48, 64)
    none, half, whole = (Painting(Watched(0.2), 48 * 64, strength=share)(photo) for share in (0, 0.5, 1))
    assert torch.equal(none, photo)
    torch.testing.assert_close(half, (photo + whole) / 2)
    torch.testing.assert_close(whole, (photo - 0.2).clamp(-1, 1))


def test_colors_can_be_kept():
    photo = blobs(48, 64) * 0.4
    picture = Painting(lambda given: (0.7 * given + 0.1).flip(1), 48 * 64, keep_colors=True)(photo)
    before, after = to_oklab(to_unit(photo)), to_oklab(to_unit(picture))
    inside = (picture.abs() < 0.999).all(1, keepdim=True)  # the others have no such color at their lightness
    assert inside.float().mean() > 0.9
    assert ((after - before)[:, 1:] * inside).abs().max() < 0.01
    assert (after - before)[:, 0].abs().mean() > 0.02


def test_a_style_of_a_file_takes_a_strength_and_keeps_its_size():
    photo = blobs(48, 64)
    style = Translator(Painting(Watched(0.2), 48 * 64))
    torch.testing.assert_close(style.with_size(None, strength=0.5)(photo), (photo + style(photo)) / 2)
    with pytest.raises(UserError, match="size=64: Painting is a style, which paints at a size of its own"):
        style.with_size(64)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("strength", 2, "strength must lie in 0 ... 1; got 2"),
        ("strength", -0.1, "strength must"),
        ("strength", float("nan"), "got nan"),
        ("stroke", 0, "stroke must lie in 0.5 ... 2; got 0"),
        ("stroke", 3, "stroke must"),
    ],
)
def test_values_out_of_range_are_refused(option, value, said):
    with pytest.raises(UserError, match=said):
        Painting(Watched(), 100, **{option: value})
