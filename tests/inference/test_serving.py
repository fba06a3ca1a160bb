"""What a page asks for: pictures as `load` paints them, sentences of bad files, and each visitor's alone."""

import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

import lit_ghibli
from lit_ghibli.errors import UserError
from lit_ghibli.inference import serving
from lit_ghibli.inference.serving import PICTURE, RUN, Choice, Painted, Service, zip_of


@pytest.fixture
def service(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    (tmp_path / "results").mkdir()
    return Service(tmp_path / "results", "cpu")


def photograph(path: Path, seed: int = 0, **options) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((80, 60), Image.Resampling.BICUBIC).save(path, **options)
    return path


def bomb(path: Path) -> None:
    """A PNG that says it has 40,000 x 40,000 pixels, and a few bytes of them."""
    photograph(path)
    content = bytearray(path.read_bytes())
    content[16:24] = (40_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)


def pixels(picture: Path | Image.Image) -> np.ndarray:
    if isinstance(picture, Image.Image):
        return np.asarray(picture)
    with Image.open(picture) as opened:
        return np.asarray(opened.convert("RGB"))


def test_a_picture_is_that_of_load_with_the_photographs_format_and_metadata(service, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "A. Painter"
    photo = photograph(tmp_path / "photo.png", exif=exif)
    choice = Choice("ink", strength=0.5, stroke=0.7, keep_colors=True)
    (painted,) = service.paint([photo], choice)
    paint = lit_ghibli.load("ink", strength=0.5, stroke=0.7, keep_colors=True)
    assert painted.picture.name == "photo_ink.png"
    assert np.array_equal(pixels(painted.picture), pixels(paint(photo)))
    with Image.open(painted.picture) as picture:
        assert picture.format == "PNG"
        assert picture.getexif()[ExifTags.Base.Artist] == "A. Painter"
    assert pixels(painted.shown).shape == pixels(painted.shown_photo).shape == (60, 80, 3)


BAD = {
    "drawing.svg": (lambda path: path.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>"), "not an image"),
    "page.html": (lambda path: path.write_text("<script>alert(1)</script>"), "not an image"),
    "text.png": (lambda path: path.write_text("text"), "no known format or damaged"),
    "nothing.jpg": (lambda path: path.touch(), "is empty (0 bytes)"),
    "bomb.png": (bomb, "too large to decode safely"),
    "large.jpg": (
        lambda path: Image.new("RGB", (150, 100)).save(path),
        "too large to decode safely",
    ),
    "cut.png": (lambda path: path.write_bytes(photograph(path).read_bytes()[:2000]), "truncated or damaged"),
}


def test_of_bad_files_sentences_without_folders_come_and_the_others_are_painted(service, tmp_path):
    files = []
    for name, (write, _) in BAD.items():
        write(tmp_path / name)
        files += [tmp_path / name, photograph(tmp_path / "good.jpg")]
    results = list(service.paint(files, Choice()))
    assert all(isinstance(each, Painted) for each in results[1::2])
    for sentence, (name, (_, expected)) in zip(results[::2], BAD.items(), strict=True):
        assert sentence.startswith(name)
        assert expected in sentence
        assert "/" not in sentence


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(RUN), "which run"),
        (Choice(PICTURE), "a picture whose style is taken is missing"),
        (Choice(PICTURE, picture=Path("folder/text.png")), "^text.png is not an image"),
        (Choice("meadow", strength=2.0), "strength must lie in 0 ... 1"),
        (Choice(RUN, "no/such"), "no such run"),
    ],
)
def test_a_style_that_cannot_be_used_is_one_message(service, tmp_path, monkeypatch, choice, message):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("folder/text.png").write_text("text")
    with pytest.raises(UserError, match=message):
        next(service.paint([photograph(tmp_path / "photo.png")], choice))


def test_two_at_once_get_their_own_and_models_are_loaded_once(service, tmp_path, monkeypatch):
    opened = []
    original = serving.open_model
    monkeypatch.setattr(serving, "open_model", lambda *a, **k: opened.append(a[0]) or original(*a, **k))
    folders = [tmp_path / name for name in ("a", "b")]
    photos = []
    for seed, folder in enumerate(folders):
        folder.mkdir()
        photos.append(photograph(folder / "same.png", seed))
    choices = [Choice("ink"), Choice("evening")]
    alone = [
        pixels(next(service.paint([photo], choice)).picture) for photo, choice in zip(photos, choices, strict=True)
    ]

    def three_times(number: int) -> list[np.ndarray]:
        return [pixels(each.picture) for each in service.paint([photos[number]] * 3, choices[number])]

    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(three_times, range(2)))
    assert all(np.array_equal(each, alone[number]) for number in range(2) for each in together[number])
    assert opened == ["ink", "evening"]


def test_an_archive_holds_pictures_of_one_name_by_numbers(tmp_path):
    files = []
    for folder in "ab":
        (tmp_path / folder).mkdir()
        files.append(tmp_path / folder / "photo_ink.png")
        files[-1].write_text(folder)
    with zipfile.ZipFile(zip_of([*files, files[0]], tmp_path / "all.zip")) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    assert found == {"photo_ink.png": b"a", "photo_ink_2.png": b"b", "photo_ink_3.png": b"a"}
