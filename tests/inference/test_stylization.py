"""Styles that are given by pictures: words, the numbers that they come to, and what is painted with them."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import lit_ghibli
from lit_ghibli.commands.mos_build import parse_methods
from lit_ghibli.errors import UserError
from lit_ghibli.images import to_unit
from lit_ghibli.inference import stylization
from lit_ghibli.inference.load import is_style, open_model
from lit_ghibli.inference.style_pictures import find_style_pictures, is_style_pictures
from lit_ghibli.inference.stylization import Stylization
from lit_ghibli.inference.subjects import find_subjects
from lit_ghibli.inference.translator import Translator
from lit_ghibli.painter.oklab import to_oklab


class MeanColor(nn.Module):
    """Describes a picture by its mean color, and paints everything in the color of the style."""

    size_multiple, minimum_size, context = 4, 4, 0

    def __init__(self) -> None:
        super().__init__()
        self.sizes = []

    def embed(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.mean(dim=(2, 3))

    def forward(self, photos: torch.Tensor, style: torch.Tensor | None = None) -> torch.Tensor:
        self.sizes.append(tuple(photos.shape[-2:]))
        return style[:, :, None, None].expand(len(photos), -1, *photos.shape[-2:])


def noisy(color: tuple[float, float, float], size: tuple[int, int] = (40, 48), seed: int = 0) -> Image.Image:
    """A picture of a mean color in [0, 255], with noise of a few levels that leaves the mean alone."""
    noise = np.random.default_rng(seed).integers(0, 2, (*size, 1)) * 8.0 - 4
    noise[1::2] = -noise[::2]
    return Image.fromarray((np.array(color) + noise).astype(np.uint8))


@pytest.fixture
def styles(tmp_path, monkeypatch) -> Path:
    """A folder with a red, a green and a blue style."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "styles"
    folder.mkdir()
    for name, color in (("red", (200, 50, 50)), ("green", (50, 200, 50)), ("blue", (50, 50, 200))):
        noisy(color).save(folder / f"{name}.png")
    return folder


def painted(translator: Translator, photo: Image.Image) -> list[int]:
    """The one color of a picture."""
    pixels = np.array(translator(photo)).reshape(-1, 3).astype(int)
    assert np.ptp(pixels, axis=0).max() <= 1
    return np.round(pixels.mean(axis=0)).astype(int).tolist()


RED, GREEN, BLUE = (200, 50, 50), (50, 200, 50), (50, 50, 200)
GREY = noisy((100, 140, 100), size=(36, 52))


@pytest.mark.parametrize(
    ("word", "options", "color"),
    [
        ("styles/red.png", {}, RED),
        ("styles/red.png", {"strength": 0.5}, (150, 95, 75)),
        ("styles/red.png", {"strength": 0.0}, (100, 140, 100)),
        ("styles/red.png:1,styles/blue.png:3", {}, (87.5, 50, 162.5)),
        ("styles/red.png,styles/blue.png", {}, (125, 50, 125)),
        ("styles", {}, (100, 100, 100)),
        ("mean:styles", {}, (100, 100, 100)),
        ("nearest:styles", {}, GREEN),
        ("nearest:styles", {"strength": 0.5}, (75, 170, 75)),
        ("styles/red.png", {"scale": 2}, RED),
    ],
)
def test_words_come_to_styles(styles, word, options, color):
    translator = Translator(MeanColor()).with_style(word, **options)
    assert painted(translator, GREY) == pytest.approx(color, abs=1)


def test_pictures_themselves_are_styles_too(styles):
    plain = Translator(MeanColor())
    red, blue = noisy(RED), noisy(BLUE)
    tensor = torch.from_numpy(np.array(blue)).permute(2, 0, 1).float() / 127.5 - 1
    assert painted(plain.with_style(red), GREY) == pytest.approx(RED, abs=1)
    assert painted(plain.with_style([red, tensor], weights=[1, 3]), GREY) == pytest.approx((87, 50, 162), abs=1)
    again = plain.with_style(red).with_style(np.array(blue), strength=0.5)
    assert painted(again, GREY) == pytest.approx((75, 95, 150), abs=1)


def test_each_picture_of_a_batch_has_its_own_style(styles):
    photos = torch.stack([torch.from_numpy(np.array(noisy(c))).permute(2, 0, 1) / 127.5 - 1 for c in (RED, BLUE)])
    pictures = Translator(MeanColor()).with_style("nearest:styles")(photos)
    torch.testing.assert_close(pictures.mean(dim=(2, 3)), photos.mean(dim=(2, 3)), atol=0.01, rtol=0)
    tiled = Translator(MeanColor(), tile=128)
    large = torch.nn.functional.interpolate(photos, (150, 140))
    several = tiled.with_style("nearest:styles")
    torch.testing.assert_close(several(large).mean(dim=(2, 3)), photos.mean(dim=(2, 3)), atol=0.02, rtol=0)
    assert max(math.prod(size) for size in several.network.network.sizes) < 150 * 140


def test_colors_of_the_photograph_are_kept(styles):
    picture = Translator(MeanColor()).with_style("styles/red.png", keep_colors=True)(GREY)
    ours, photo, red = (
        to_oklab(to_unit(torch.from_numpy(np.array(each)).permute(2, 0, 1)[None] / 127.5 - 1))
        for each in (picture, GREY, Image.new("RGB", GREY.size, RED))
    )
    torch.testing.assert_close(ours[:, :1], red[:, :1], atol=0.02, rtol=0)
    torch.testing.assert_close(ours[:, 1:], photo[:, 1:], atol=0.02, rtol=0)


def test_the_scale_is_that_of_what_is_painted(styles):
    network = MeanColor()
    picture = Translator(network).with_style("styles/red.png", scale=1.5)(GREY)
    assert picture.size == GREY.size
    assert network.sizes == [(56, 80)], "54 x 78, brought to multiples of 4"


def test_a_network_that_describes_nothing_is_mixed_with_the_photograph():
    network = MeanColor()
    del MeanColor.embed
    try:
        mixed = Translator(Stylization(network, torch.ones(1, 3), strength=0.25), tile=0)
        photo = torch.full((1, 3, 8, 8), -0.2)
        torch.testing.assert_close(mixed(photo), torch.full((1, 3, 8, 8), -0.2 * 0.75 + 0.25))
    finally:
        MeanColor.embed = lambda self, pictures: pictures.mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("word", "options", "message"),
    [
        ("styles/none.png", {}, "styles/none.png cannot be read"),
        ("flat.png", {}, "flat.png is of one color and has no strokes"),
        ("tiny.png", {}, "tiny.png is 40x20 pixels; a style needs at least 32x32"),
        ("text.png", {}, "text.png is not an image"),
        ("empty", {}, "empty"),
        ("nearest:nowhere", {}, "nowhere does not exist"),
        ("styles/red.png:0,styles/blue.png:0", {}, "not all 0"),
        ("styles/red.png:-1,styles/blue.png:2", {}, "none negative"),
        ("styles/red.png:nan,styles/blue.png:2", {}, "none negative"),
        ("styles/red.png:x,styles/blue.png", {}, "a.jpg:0.7,b.jpg:0.3"),
        ("styles/red.png", {"strength": 1.5}, r"strength must lie in 0 ... 1; got 1.5"),
        ("styles/red.png", {"strength": -0.1}, "strength must lie in"),
        ("styles/red.png", {"scale": 9}, "scale must lie in 0.25 ... 4"),
    ],
)
def test_what_cannot_be_a_style_is_told(styles, word, options, message):
    Image.new("RGB", (64, 64), (3, 4, 5)).save("flat.png")
    noisy(RED, size=(20, 40)).save("tiny.png")
    Path("text.png").write_text("no picture")
    Path("empty").mkdir()
    with pytest.raises(UserError, match=message) as error:
        Translator(MeanColor()).with_style(word, **options)
    assert str(error.value).count("\n") < 2


def test_a_network_without_styles_and_a_style_that_is_missing_are_told():
    with pytest.raises(UserError, match="Identity takes no style"):
        Translator(nn.Identity()).with_style(GREY)
    with pytest.raises(UserError, match=r"style=sample:3: styles are drawn by runs of method=vqi2i: give checkpoint="):
        Translator(MeanColor()).with_style("sample:3")
    with pytest.raises(UserError, match="needs a style"):
        Translator(Stylization(MeanColor(), None), tile=0)(GREY)


# --- words in commands ---------------------------------------------------------


def test_words_of_commands(styles):
    for word in ("a.jpg", "b.png:1,c.png:2", "mean:x", "nearest:x", "magenta26:7", "arbitrary"):
        assert is_style_pictures(word)
        assert is_style(word)
    for word in ("meadow", "run", "mean", "magenta26", "magenta26:x", "last.ckpt", "a:b"):
        assert not is_style_pictures(word)
    assert not is_style("styles"), "a folder may be of pictures to compare, or of a run"
    assert is_style("styles/red.png")
    names = find_subjects(["Oil:styles/red.png", "nearest:styles", "magenta26:3", "styles/red.png:1,styles/blue.png:2"])
    assert [str(path) for path in names.values()][:3] == ["styles/red.png", "nearest:styles", "magenta26:3"]
    assert next(iter(names)) == "Oil"


@pytest.mark.parametrize("style", ["a.png:0.7,b.png:0.3", "a.png,b.png:2", "styles/red.png:1,b.png", "nearest:styles"])
def test_a_style_of_several_parts_has_a_name_before_a_colon(style, styles):
    assert find_subjects([f"mix:{style}"]) == {"mix": Path(style)}
    assert parse_methods([f"mix:{style}"]) == {"mix": Path(style)}
    (name,) = find_subjects([style])
    assert "mix" not in name
    with pytest.raises(UserError, match="without a name of its own"):
        parse_methods([style])


def test_published_networks_take_styles_by_words(styles, monkeypatch):
    torch.manual_seed(0)
    weights = stylization.ArbitraryStylization().state_dict()
    monkeypatch.setattr(stylization, "published_weights", lambda: weights)
    photo = noisy((90, 120, 150), size=(22, 34))
    load = lit_ghibli.load
    picture = load("styles/red.png", strength=0.5, scale=2)(photo)
    assert picture.size == photo.size
    other = load("arbitrary", scale=2).with_style("styles/red.png", strength=0.5, scale=2)(photo)
    assert np.array_equal(np.array(picture), np.array(other))
    sums = {word: open_model(word).sha256 for word in ("styles/red.png", "styles/blue.png", "mean:styles", "arbitrary")}
    assert len(set(sums.values())) == 4
    for options, message in (
        ({"stroke": 2.0}, "stroke=2.0: that is of a style with a name"),
        ({"strength": 2}, "lie in"),
    ):
        with pytest.raises(UserError, match=message):
            load("styles/red.png", **options)
    with pytest.raises(UserError, match="scale=2: that is of a style by pictures"):
        load("meadow", scale=2)
    with pytest.raises(UserError, match=r"magenta26:26: there are the styles 0 \.\.\. 25"):
        load("magenta26:26")


def test_styles_of_a_folder_are_in_order(styles):
    files, weights, nearest = find_style_pictures("nearest:styles")
    assert [file.name for file in files] == ["blue.png", "green.png", "red.png"]
    assert weights == [1 / 3] * 3
    assert nearest
