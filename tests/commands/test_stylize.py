"""What is typed after `lit-ghibli stylize`, and the pictures that come of it."""

import io
import re
import subprocess
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from helpers.styles import made_style
from hydra import compose
from PIL import ExifTags, Image

from lit_ghibli.commands import stylize as command
from lit_ghibli.commands import to_overrides
from lit_ghibli.data.image_files import open_image
from lit_ghibli.errors import UserError
from lit_ghibli.scenes.scene import render_pair


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """A folder with two photographs, one of them in a folder of its own, and a small style called mine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIT_GHIBLI_STYLES", str(tmp_path / "styles"))
    made_style(tmp_path / "styles")
    photo("a.png", 0)
    photo("holiday/b.jpg", 1)


def photo(name: str, number: int = 0, size: tuple[int, int] = (48, 32), **options) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(render_pair(0, number, 64)[0]).resize(size).save(path, **options)
    return path


def typed(monkeypatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["lit-ghibli stylize", *words])
    command.main()


def refusal(monkeypatch, *words: str) -> str:
    """What is said of words that are refused; nothing may be written for them."""
    before = sorted(Path.cwd().rglob("*"))
    with pytest.raises(SystemExit) as error:
        typed(monkeypatch, *words)
    assert sorted(Path.cwd().rglob("*")) == before
    message = str(error.value)
    assert message.startswith("lit-ghibli stylize: ")
    assert message.count("\n") < 2
    return message


def piped(monkeypatch, content: bytes, *words: str) -> bytes:
    """What comes out of standard output."""
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    monkeypatch.setattr(sys, "__stdout__", out)
    with redirect_stdout(out):
        typed(monkeypatch, *words)
    return out.buffer.getvalue()


# --- words ---------------------------------------------------------------------


def both_ways(*words: str) -> tuple[dict, dict]:
    """The same words without Hydra and with it."""
    plain = vars(command._composed_plainly(list(words)))
    config = compose("stylize", to_overrides("stylize", list(words)))
    return plain, {key: config[key] for key in plain if key not in ("defaults", "hydra")}


@pytest.mark.usefixtures("composing")
@pytest.mark.parametrize(
    "words",
    [
        "a.jpg",
        "a.jpg b.png style=ink",
        "a.jpg --style ink",
        "a.jpg --style=ink --strength 0.5",
        "a.jpg strength=1 stroke=2 keep_colors=true overwrite=true quality=80",
        "süß.jpg -o out --keep-colors true",
        "- style=null",
    ],
)
def test_plain_words_mean_what_hydra_makes_of_them(words):
    plain, composed = both_ways(*words.split())
    assert {key: plain[key] for key in composed} == composed


@pytest.mark.usefixtures("composing")
@pytest.mark.parametrize(
    "name", ["a b.jpg", "it's.jpg", "a,b[1]{2}(3).jpg", "süß 宮崎.jpg", "$HOME", "null", "1", "%:@#!?"]
)
def test_any_name_is_read_as_hydra_reads_it(name):
    plain, composed = both_ways(name, "--out", name)
    assert list(plain["inputs"]) == list(composed["inputs"]) == [name]
    assert plain["out"] == composed["out"] == name


@pytest.mark.parametrize(
    "word",
    [
        "checkpoint=x",
        "device=cpu",
        "style=painter",
        "painter=ink",
        "strength=abc",
        "strength=true",
        "overwrite=1",
        "quality=9.5",
        "tile=-5",
        "stlye=ink",
        "out=${x}",
        "a\\b.jpg",
        "a\nb.jpg",
        "-m",
        "--help",
        "--cfg=job",
        "~style",
    ],
)
def test_everything_else_is_left_to_hydra(word):
    assert command._composed_plainly(["a.jpg", word]) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "no photographs given"),
        ("nowhere.jpg", "nowhere.jpg: no such photograph or folder"),
        ("a.png style=min", "there is no such style; did you mean mine"),
        ("a.png style=run", "a run is given as checkpoint="),
        ("a.png style=nearest:nowhere", "image folder nowhere does not exist"),
        ("a.png style=none.png", "none.png cannot be read"),
        ("a.png style=a.png stroke=2", "stroke=2: that is of a style with a name"),
        ("a.png scale=2", "scale=2: that is of a style by pictures"),
        ("a.png style=magenta26:26", "there are the styles 0 ... 25"),
        ("a.png strength=2", "strength must lie in 0 ... 1; got 2"),
        ("a.png stroke=0", "stroke must lie in 0.5 ... 2; got 0"),
        ("a.png max_megapixels=0", "max_megapixels must be more than 0"),
        ("a.png quality=0", "quality must be a whole number in 1 ... 100"),
        ("a.png on_bad_file=ignore", "on_bad_file is error or skip"),
        ("a.png --out a.png", "a.png would overwrite what is to be painted"),
        ("a.png holiday/b.jpg", "holiday/b.jpg exists already"),
        ("a.png out.gif --out out.gif", "out.gif: no such photograph"),
        ("a.png --out out.gif", "out.gif: pictures are written to files that end in .jpg"),
        ("a.png --out holiday/b.jpg", "holiday/b.jpg exists already"),
        ("- a.jpg holiday/b.jpg", "one photograph of standard input"),
        ("holiday -", "one photograph of standard input"),
        ("- --out folder", "folder: name the picture's file"),
        ("nowhere.jpg -", "nowhere.jpg cannot be read"),
        ("a.png smooth=7", "smooth=7: that is of clips, and would do nothing here: leave it out"),
        ("holiday smooth=0", "smooth=0: that is of clips"),
        ("a.png - smooth=0.5", "smooth=0.5: that is of clips"),
        ("a.png style=mine tile=512", "tile=512: that is of runs whose network can translate parts, and of"),
        ("a.png quality=80", "quality=80: that is of .jpg, .jpeg, .jfif, .webp, .avif and clips"),
        ("a.png - quality=80", "quality=80: that is of .jpg"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line_and_nothing_is_written(monkeypatch, words, said):
    Path("run/checkpoints").mkdir(parents=True)
    assert said in refusal(monkeypatch, *words.split())


@pytest.mark.parametrize("words", [["no\nphoto"], ["a.png", "checkpoint=no\nrun"], ["a.png", "style=no\nstyle"]])
def test_a_line_break_that_was_typed_is_none_of_the_message(monkeypatch, words):
    monkeypatch.setattr("lit_ghibli.commands._hydra._typed", words)
    assert r"no\n" in (said := refusal(monkeypatch, *words))
    assert "\n" not in said


def composed(*overrides: str):
    return compose("stylize", list(overrides))


@pytest.mark.usefixtures("composing")
@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["checkpoint=x", "style=ink"], "give one of them"),
        (["checkpoint=x", "stroke=2"], r"stroke=2: that is of styles \(a run has size=\)"),
        (["checkpoint=x", "scale=2"], r"scale=2: that is of styles"),
        (["size=256"], r"size=256: that is of runs \(a style has stroke="),
        (["checkpoint=x", "style=a.png", "size=256"], "size=256: that is of runs"),
        (["solver=euler"], "solver, steps, direction and weights are of runs"),
        (["checkpoint=newest"], "no run with a checkpoint below outputs/"),
        (["checkpoint=nowhere"], "nowhere"),
        (["style=2024"], "style=2024: there is no such style"),
    ],
)
def test_runs_and_styles_are_kept_apart(overrides, said):
    photo("a.png")
    with pytest.raises(UserError, match=said):
        command.stylize(composed("inputs=[a.png]", *overrides))


@pytest.mark.usefixtures("composing")
def test_settings_of_the_painter_are_refused_where_it_does_not_paint(monkeypatch):
    photo("a.png")
    words = ["painter=ink", "painter.outlines.opacity=0.9"]
    monkeypatch.setattr("lit_ghibli.commands._hydra.job_overrides", lambda: words)
    for style in ("style=null", "style=a.png", "checkpoint=run"):
        with pytest.raises(UserError, match="painter=ink: that is of style=painter"):
            command.stylize(composed("inputs=[a.png]", style, *words))
    command.stylize(composed("inputs=[a.png]", "style=painter", *words))
    command.stylize(composed("inputs=[a.png]", "style=painter", "out=b.png"))
    assert open_image("a_painter.png").tobytes() != open_image("b.png").tobytes()


def test_styles_are_listed(monkeypatch, capsys):
    typed(monkeypatch, "style=?")
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} >= {"meadow", "mine", "painter"}


# --- pictures ------------------------------------------------------------------


def test_a_picture_lies_beside_its_photograph(monkeypatch, capsys):
    typed(monkeypatch, "a.png", "style=mine")
    assert capsys.readouterr().out.splitlines()[-1].startswith("a_mine.png, ")
    assert open_image("a_mine.png").tobytes() != open_image("a.png").tobytes()
    assert "a_mine.png exists already" in refusal(monkeypatch, "a.png", "style=mine")
    typed(monkeypatch, "a.png", "style=mine", "overwrite=true")


def test_the_second_of_two_words_is_the_pictures_file(monkeypatch):
    typed(monkeypatch, "a.png", "new/painted.webp", "style=mine")
    with Image.open("new/painted.webp") as picture:
        assert (picture.format, picture.size) == ("WEBP", (48, 32))


def test_a_folder_keeps_its_order_and_a_bad_file_does_not_cost_the_others(monkeypatch, capsys):
    photo("holiday/sub/c.png", 2)
    Path("holiday/bad.jpg").write_text("no picture")
    with pytest.raises(SystemExit, match=r"1 of 3 files could not be translated:\n  holiday/bad.jpg is not an image"):
        typed(monkeypatch, "holiday", "style=mine")
    assert Path("holiday_mine/b.jpg").is_file()
    assert Path("holiday_mine/sub/c.png").is_file()
    typed(monkeypatch, "holiday/", "--out", "out", "style=mine", "on_bad_file=skip")
    assert "2 pictures in out/" in capsys.readouterr().out


def test_a_folder_goes_on_with_what_is_missing(monkeypatch, capsys):
    photo("holiday/c.png", 2)
    typed(monkeypatch, "holiday", "--out", "out", "style=mine")
    Path("out/c.png").unlink()
    Path("holiday/bad.jpg").write_text("no picture")
    Path("out/b.jpg").write_bytes(b"mine")
    for words, said in (
        ("holiday", "1 there already, 2 to do"),
        ("holiday", "2 there already, 1 to do"),
        ("holiday/b.jpg holiday/c.png", "2 there already, 0 to do"),
    ):
        with pytest.raises(SystemExit) if words == "holiday" else nullcontext():
            typed(monkeypatch, *words.split(), "--out", "out", "style=mine")
        assert said in capsys.readouterr().out
    assert Path("out/b.jpg").read_bytes() == b"mine"
    assert open_image("out/c.png").size == (48, 32)
    typed(monkeypatch, "holiday", "--out", "out", "style=mine", "overwrite=true", "on_bad_file=skip")
    assert "there already" not in capsys.readouterr().out
    assert open_image("out/b.jpg").size == (48, 32)


def test_pictures_that_something_else_has_made_are_not_done(monkeypatch, capsys):
    photo("holiday/c.png", 2)
    out = ["holiday", "--out", "out"]
    typed(monkeypatch, *out, "style=mine")
    for words, said in (
        ("style=ink", "out/b.jpg, were made with style=mine, not with style=ink: overwrite=true makes all anew"),
        ("style=mine strength=0.5", "with strength=1, not with strength=0.5:"),
        ("style=a.png", "with style=mine, not with style=a.png:"),
    ):
        assert said in refusal(monkeypatch, *out, *words.split())
    made_style(Path("styles"), seed=1)
    assert "with other weights or settings:" in refusal(monkeypatch, *out, "style=mine")
    typed(monkeypatch, *out, "style=mine", "overwrite=true")
    typed(monkeypatch, *out, "style=mine", "strength=1")
    assert "2 there already" in capsys.readouterr().out
    with Image.open("out/b.jpg") as picture:
        assert re.fullmatch(r"lit_ghibli style=mine .*quality=95 [0-9a-f]{12}", picture.getexif()[0x0131])
        picture.save("out/b.jpg")  # which says no more what has made it
    Path("out/c.png").unlink()
    typed(monkeypatch, *out, "style=ink")
    assert "1 there already, 1 to do" in capsys.readouterr().out


def test_pictures_of_formats_that_are_read_alone_or_cannot_say_what_has_made_them_are_told(monkeypatch, capsys):
    for name in ("in/a.gif", "in/b.ppm", "in/d.bmp", "c.gif", "e.bmp"):
        photo(name)
    typed(monkeypatch, "in", "style=mine")
    assert "1 .bmp written as .png, 1 .gif written as .png, 1 .ppm written as .png" in capsys.readouterr().out
    assert "were made with style=mine" in refusal(monkeypatch, "in", "--out", "in_mine", "style=ink")
    typed(monkeypatch, "c.gif", "style=mine")
    typed(monkeypatch, "e.bmp", "style=mine")
    assert {path.name for path in Path.cwd().rglob("*.png")} >= {"a.png", "b.png", "c_mine.png", "d.png", "e_mine.png"}
    typed(monkeypatch, "e.bmp", "named.bmp", "style=mine")
    assert open_image("named.bmp").tobytes() == open_image("e_mine.png").tobytes()
    assert "named.bmp exists already" in refusal(monkeypatch, "e.bmp", "--out", "named.bmp", "style=ink")


def test_more_megapixels_are_read_on_request(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # which the command sets, and this restores
    photo("large.png", size=(200, 100))
    with pytest.raises(
        SystemExit, match=r"too large to decode safely \(0.0 megapixels of at most 0.0\).*max_megapixels="
    ):
        typed(monkeypatch, "large.png", "style=mine", "max_megapixels=0.01")
    typed(monkeypatch, "large.png", "style=mine", "max_megapixels=0.02")
    assert open_image("large_mine.png").size == (200, 100)


def test_strength_zero_is_the_photograph(monkeypatch):
    typed(monkeypatch, "a.png", "b.png", "style=mine", "strength=0")
    assert open_image("b.png").tobytes() == open_image("a.png").tobytes()


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (2, 300)])
def test_tiny_photographs_are_painted(monkeypatch, size):
    photo("tiny.png", size=size)
    typed(monkeypatch, "tiny.png")
    assert open_image("tiny_meadow.png").size == size


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16", "P", "CMYK"])
def test_photographs_of_other_kinds_are_painted(monkeypatch, mode):
    picture = Image.fromarray(render_pair(0, 0, 64)[0])
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    name = "other.jpg" if mode == "CMYK" else "other.png"
    picture.convert(mode).save(name)
    typed(monkeypatch, name, "painted.png", "style=mine")
    with Image.open("painted.png") as painted:
        assert (painted.mode, painted.size) == ("RGBA" if mode == "RGBA" else "RGB", (64, 64))


# --- standard input and output -------------------------------------------------


def test_a_photograph_passes_through(monkeypatch):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    photo("turned.jpg", exif=exif)
    picture = Image.open(io.BytesIO(piped(monkeypatch, Path("turned.jpg").read_bytes(), "-", "style=mine")))
    assert (picture.format, picture.size) == ("JPEG", (32, 48))
    assert picture.getexif()[ExifTags.Base.Orientation] == 1


@pytest.mark.parametrize("words", [["a.png", "-"], ["a.png", "--out", "-"], ["-", "-"], ["-"]])
def test_pictures_go_to_standard_output_alone(monkeypatch, words):
    out = piped(monkeypatch, Path("a.png").read_bytes(), *words, "style=mine")
    assert Image.open(io.BytesIO(out)).size == (48, 32)
    assert not Path("-").exists()


def test_a_photograph_of_standard_input_goes_to_a_file(monkeypatch):
    assert piped(monkeypatch, Path("a.png").read_bytes(), "-", "b.jpg", "style=mine") == b""
    assert open_image("b.jpg").size == (48, 32)


@pytest.mark.parametrize(("content", "said"), [(b"", "is empty"), (b"text", "is not an image")])
def test_standard_input_that_is_no_photograph_is_told(monkeypatch, content, said):
    with pytest.raises(SystemExit, match=f"stylize: standard input {said}"):
        piped(monkeypatch, content, "-")


# --- processes -----------------------------------------------------------------


def test_a_reader_that_leaves_early_is_told_in_a_line(tmp_path):
    photo("large.bmp", size=(300, 300))
    process = subprocess.Popen(
        [sys.executable, "-m", "lit_ghibli", "stylize", "large.bmp", "-", "style=mine"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1
    assert said.splitlines() == ["lit-ghibli stylize: standard output was closed before the picture was written"]


def test_a_killed_folder_goes_on(monkeypatch, capsys):
    for number in range(3):
        photo(f"in/{number}.png", number)
    program = (
        "import os, sys; from lit_ghibli.commands import stylize; replace, done = os.replace, []\n"
        "def killed(*paths):\n"
        "    if done: os.kill(os.getpid(), 9)\n"
        "    done.append(replace(*paths))\n"
        "os.replace = killed; sys.argv = ['', 'in', '--out', 'out', 'style=mine']; stylize.main()"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == -9
    assert len(list(Path("out").iterdir())) == 2  # the first picture, and the second before it had its name
    typed(monkeypatch, "in", "--out", "out", "style=mine")
    assert "1 there already, 2 to do" in capsys.readouterr().out
    assert sorted(path.name for path in Path("out").iterdir()) == ["0.png", "1.png", "2.png"]


def test_a_style_needs_little(tmp_path):
    heavy = {"av", "cv2", "hydra", "lightning", "matplotlib", "omegaconf", "scipy", "torchvision", "wandb"}
    program = (
        "import sys; from lit_ghibli import cli; sys.argv = ['', 'stylize', 'a.png', 'b.png', 'keep_colors=true']; "
        f"cli.main(); print(sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert Path("b.png").is_file()
