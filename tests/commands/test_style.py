"""`lit-ghibli style`: what is refused before anything is trained, and a whole one."""

from pathlib import Path

import pytest
from helpers.styles import made_style
from hydra import compose
from PIL import Image

from lit_ghibli.commands.style import style
from lit_ghibli.errors import UserError
from lit_ghibli.inference.styles import SHIPPED, read_card
from lit_ghibli.scenes.scene import render_pair

PHOTOGRAPHS = SHIPPED.parent / "photographs"


@pytest.fixture(scope="module")
def rendered():
    """Pixels of photographs and of paintings."""
    pairs = [render_pair(0, number, 160) for number in range(3)]
    return {kind: [pair[half] for pair in pairs] for half, kind in enumerate(("photos", "paintings"))}


@pytest.fixture
def here(tmp_path, monkeypatch, rendered) -> Path:
    """A folder with paintings and photographs, and a style that is called mine already."""
    monkeypatch.setenv("LIT_GHIBLI_STYLES", str(tmp_path / "styles"))
    monkeypatch.chdir(tmp_path)
    made_style(tmp_path / "styles")
    for name, pictures in rendered.items():
        Path(name).mkdir()
        for number, pixels in enumerate(pictures):
            Image.fromarray(pixels).save(Path(name, f"{number}.png"))
    Path("red").mkdir()
    Image.new("RGB", (64, 48), "red").save("red/1.png")
    Path("empty").mkdir()
    return tmp_path


@pytest.mark.usefixtures("composing")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("paintings=empty name=x", "image folder empty holds no images"),
        ("paintings=nowhere name=x", "nowhere does not exist"),
        ("paintings=red name=x", "of one color"),
        ("paintings=paintings name=x photos=nowhere", "nowhere does not exist"),
        ("paintings=paintings name=x photos=red", "held_out=4: red has 1 photographs"),
        ("paintings=paintings name=x photos=photos held_out=0", "held_out=0: photos has 3 photographs"),
        ("paintings=paintings name=x steps=0", "steps must be a whole number of at least 1; got 0"),
        ("paintings=paintings name=x overrides=['tile=3']", "train has no 'tile'"),
        ("paintings=paintings name=x overrides=['method.epochs=abc']", "method.epochs must be a whole number"),
        ("paintings=paintings name=x start=medow", "style=medow: there is no such style; did you mean meadow?"),
        ("paintings=paintings name=x steps=12.5", "steps must be a whole number"),
        ("paintings=paintings name=meadow", "name=meadow: a style of this name ships"),
        ("paintings=paintings name=painter overwrite=true", "name=painter: a style of this name ships"),
        ("paintings=paintings name=arbitrary", "name=arbitrary: a style of this name ships"),
        ("paintings=paintings name=mine", "mine.safetensors exists already: choose another name, or add overwrite"),
        ("paintings=paintings name=a/b", "a name has letters, digits, - and _ only"),
        ("paintings=paintings name=-x", "a name has letters"),
    ],
)
def test_what_no_style_can_be_made_of_is_said_before_anything_is_written(here, words, said):
    before = sorted(here.rglob("*"))
    with pytest.raises(UserError, match=said):
        style.__wrapped__(compose("style", words.split()))
    assert sorted(here.rglob("*")) == before


@pytest.mark.usefixtures("composing")
def test_a_name_of_digits_is_no_other_than_the_files(here):
    made_style(here / "styles", "2024")
    with pytest.raises(UserError, match="exists already"):
        style.__wrapped__(compose("style", ["paintings=paintings", "name=2024"]))


@pytest.mark.slow
def test_a_style_of_ones_own_is_made_and_painted_with(here, cli):
    words = ["photos=photos", "held_out=1", "steps=12"]
    made = cli("style", "paintings", "name=mine", "overwrite=true", *words, cwd=here)
    assert made.returncode == 0, made.stderr
    assert Path("outputs/styles/mine/page/compare.html").is_file()
    card = read_card(here / "styles/mine.safetensors")
    assert card.description == "from the paintings in paintings"
    assert card.recipe == "lit-ghibli style paintings name=mine overwrite=true photos=photos held_out=1 steps=12"
    assert card.figures
    painted = cli("stylize", "photos/0.png", "painted.png", "style=mine", cwd=here)
    assert painted.returncode == 0, painted.stderr
    assert Path("painted.png").is_file()
