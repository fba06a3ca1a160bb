import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.styles import OUTLINES, TINY
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from lit_ghibli.data.image_files import open_image
from lit_ghibli.errors import UserError
from lit_ghibli.inference import styles
from lit_ghibli.inference.styles import SHIPPED, Card, StyleError, find_styles, load_style, read_card, write_style
from lit_ghibli.networks.painting import PaintingNetwork
from lit_ghibli.recipes import build_painter

CARD = Card("small", 32 * 32, TINY, OUTLINES, data="none", licence="CC0-1.0", figures={"val/l1": 0.5})


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """The user's folder of styles."""
    monkeypatch.setenv("LIT_GHIBLI_STYLES", str(tmp_path / "own"))
    return tmp_path / "own"


@pytest.fixture
def network() -> PaintingNetwork:
    torch.manual_seed(0)
    network = PaintingNetwork(**TINY)
    nn.init.normal_(network.last.weight, std=0.05)
    return network


def damaged(path: Path, card: dict | None = None, **weights: torch.Tensor) -> Path:
    """A style's file with another card, or with other weights."""
    metadata = {"lit_ghibli_style": json.dumps(card)} if card is not None else {}
    save_file(weights or load_file(path), path, metadata)
    return path


def test_a_file_keeps_weights_and_card(own, network):
    write_style(own / "mine.safetensors", network, CARD)
    assert read_card(own / "mine.safetensors") == replace(CARD, network=network.arguments)
    assert network.arguments.items() >= CARD.network.items()
    photo = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(load_style("mine").network.paint(photo), network(photo), atol=2e-3, rtol=0)
    assert (load_style("mine").translate(photo) - photo).abs().mean() > 1e-3


def test_styles_of_ones_own_lie_where_the_environment_says(own, network, monkeypatch):
    assert "mine" not in find_styles()
    write_style(own / "mine.safetensors", network, CARD)
    assert find_styles()["mine"] == own / "mine.safetensors"
    assert "  mine     small" in styles.describe_styles().splitlines()
    monkeypatch.setenv("LIT_GHIBLI_STYLES", "~/somewhere")
    assert styles.own_styles() == Path.home() / "somewhere"
    monkeypatch.delenv("LIT_GHIBLI_STYLES")
    assert styles.own_styles() == Path.home() / ".local/share/lit_ghibli/styles"


@pytest.mark.parametrize(
    ("name", "said"),
    [("medow", "did you mean meadow"), ("paintr", "did you mean painter"), ("zzz", "style=. lists all")],
)
def test_names_that_are_none_suggest_others(own, name, said):
    with pytest.raises(StyleError, match=f"style={name}: there is no such style.*{said}"):
        load_style(name)


def test_a_run_that_is_given_as_a_style_is_told(own, tmp_path):
    with pytest.raises(StyleError, match="a run is given as checkpoint="):
        load_style(str(tmp_path))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("no style"),
        lambda path: damaged(path),
        lambda path: damaged(path, {"description": "", "pixels": 4}),
        lambda path: damaged(path, {"description": "", "pixels": 4, "network": {}, "newer": 1}),
        lambda path: damaged(path, {"description": "", "pixels": 4, "network": {**TINY, "width": 3}}),
        lambda path: damaged(path, {"description": "", "pixels": 4, "network": {**TINY, "channels": 8}}),
        lambda path: damaged(path, {"description": "", "pixels": 4, "network": TINY}, x=torch.zeros(3)),
        lambda path: damaged(path, {"description": "", "pixels": 4, "network": TINY, "outlines": {"width": 1}}),
        lambda path: damaged(
            path, {"description": "", "pixels": 4, "network": TINY, "outlines": asdict(OUTLINES) | {"length": 1e9}}
        ),
    ],
    ids=[
        "cut",
        "empty",
        "text",
        "no-card",
        "half-a-card",
        "newer-card",
        "argument",
        "width",
        "weights",
        "half-outlines",
        "endless-outlines",
    ],
)
def test_damaged_and_foreign_files_are_named(own, network, damage):
    path = own / "mine.safetensors"
    write_style(path, network, CARD)
    damage(path)
    with pytest.raises(StyleError, match=r"mine\.safetensors") as error:
        load_style("mine")
    assert "Traceback" not in str(error.value)
    assert "meadow" in styles.describe_styles(), "the others are there all the same"


def test_pictures_have_the_outlines_of_the_card(own, network):
    for name, card in (("drawn", CARD), ("bare", replace(CARD, outlines=None))):
        write_style(own / f"{name}.safetensors", network, card)
    photo = torch.where(torch.arange(32) < 16, -0.5, 0.5).expand(1, 3, 32, 32)
    drawn, bare = (load_style(name).translate(photo) for name in ("drawn", "bare"))
    assert (bare - drawn).max() > 0.1
    assert (drawn - bare).max() < 1e-5


def test_a_style_that_is_written_anew_replaces_the_old_one(own, network):
    for _ in range(2):
        write_style(own / "mine.safetensors", network, CARD)
    assert list(own.iterdir()) == [own / "mine.safetensors"]


@pytest.mark.parametrize("option", [{"strength": 2}, {"stroke": 0}])
def test_options_out_of_range_are_refused(own, option):
    with pytest.raises(UserError, match=next(iter(option))):
        load_style("meadow", **option)


# --- those that ship -----------------------------------------------------------


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.safetensors")), ids=lambda path: path.stem)
def test_styles_that_ship_are_small_and_paint(path, own, tmp_path):
    assert path.stat().st_size <= 700_000
    card = read_card(path)
    assert card.description
    assert card.outlines == build_painter(path.stem).outlines
    style = load_style(path.stem)
    assert sum(weight.numel() for weight in style.network.paint.parameters()) <= 300_000
    photo = open_image(SHIPPED.parent / "photographs/cat.jpg")
    tensor = torch.from_numpy(np.array(photo)).permute(2, 0, 1).float()[None] / 127.5 - 1
    picture = style.translate(tensor)
    assert picture.shape == tensor.shape
    assert picture.isfinite().all()
    assert 0.02 < (picture - tensor).abs().mean() < 0.6
    for extreme in (-1.0, 1.0):
        assert load_style(path.stem).translate(torch.full((1, 3, 40, 60), extreme)).isfinite().all()


def test_a_style_takes_whatever_a_run_takes(own, tmp_path):
    shutil.copy(SHIPPED.parent / "photographs/cat.jpg", tmp_path / "photo.jpg")
    paint = load_style("meadow")
    picture = paint(tmp_path / "photo.jpg")
    assert isinstance(picture, Image.Image)
    np.testing.assert_array_equal(paint(np.array(open_image(tmp_path / "photo.jpg"))), np.array(picture))
