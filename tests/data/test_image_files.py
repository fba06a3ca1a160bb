import io
import logging
import os
import pickle
import re
import socket
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lit_ghibli.data import image_files as module
from lit_ghibli.data.image_files import (
    FolderError,
    ImageFileError,
    decode_all,
    file_kind,
    inspect_image,
    open_image,
    upright_alpha,
)
from lit_ghibli.data.image_folders import check_disjoint, list_images
from lit_ghibli.data.transforms import AtLeast

GREY_16, RGB_16, GREY_ALPHA_16 = 0, 2, 4  # color types of the PNG specification


def save(path: Path, size=(12, 8), color=(200, 40, 90), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, **options)
    return path


def png_16(path: Path, levels: np.ndarray, color_type: int) -> Path:
    """Write a 16-bit PNG by hand: Pillow cannot write all kinds."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = levels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def reason(path: Path) -> str:
    with pytest.raises(ImageFileError) as caught:
        open_image(path)
    assert caught.value.path == path
    assert str(path) in str(caught.value)
    assert caught.value.reason in str(caught.value)
    return caught.value.reason


def pixel(path: Path, at=(0, 0)) -> tuple[int, ...]:
    image = open_image(path)
    assert image.mode == "RGB"
    return image.getpixel(at)


# --- opening: every kind becomes RGB -----------------------------------------


def test_grey_palette_and_one_bit_images(tmp_path):
    color = (255, 0, 0)
    Image.new("L", (4, 4), 77).save(tmp_path / "grey.png")
    Image.new("1", (4, 4), 1).save(tmp_path / "bits.png")
    Image.new("RGB", (4, 4), color).convert("P").save(tmp_path / "palette.png")
    assert pixel(tmp_path / "grey.png") == (77, 77, 77)
    assert pixel(tmp_path / "bits.png") == (255, 255, 255)
    assert pixel(tmp_path / "palette.png") == color


def test_transparency_is_laid_on_white(tmp_path):
    Image.new("RGBA", (4, 4), (100, 0, 200, 51)).save(tmp_path / "rgba.png")  # alpha 51 / 255 = 0.2
    Image.new("LA", (4, 4), (0, 51)).save(tmp_path / "la.png")
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 1), 1)
    palette.save(tmp_path / "index.png", transparency=0)
    palette.save(tmp_path / "bytes.png", transparency=bytes([51, 255]))
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "color_key.png", transparency=(1, 2, 3))

    assert pixel(tmp_path / "rgba.png") == (224, 204, 244)  # 0.2 c + 0.8 * 255
    assert pixel(tmp_path / "la.png") == (204, 204, 204)
    assert pixel(tmp_path / "index.png") == (255, 255, 255)
    assert pixel(tmp_path / "index.png", at=(1, 1)) == (40, 50, 60)
    assert pixel(tmp_path / "bytes.png") == (206, 208, 210)
    assert pixel(tmp_path / "color_key.png") == (255, 255, 255)


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    levels = np.array([[0, 257, 32768, 65535]], np.uint16)
    grey = open_image(png_16(tmp_path / "grey.png", levels, GREY_16))
    assert np.asarray(grey)[0, :, 0].tolist() == [0, 1, 128, 255]
    assert grey.mode == "RGB"

    rgb = open_image(png_16(tmp_path / "rgb.png", np.repeat(levels[..., None], 3, axis=2), RGB_16))
    assert np.asarray(rgb)[0, :, 1].tolist() == [0, 1, 128, 255]

    opaque = np.stack([levels, np.full_like(levels, 65535)], axis=2)
    alpha = open_image(png_16(tmp_path / "alpha.png", opaque, GREY_ALPHA_16))
    assert np.asarray(alpha)[0, :, 2].tolist() == [0, 1, 128, 255]


def test_twelve_bits_in_a_file_of_sixteen_are_told_once(tmp_path, caplog):
    levels = np.array([[0, 257, 2000, 4095]], np.uint16)
    open_image(png_16(tmp_path / "bright.png", levels * 16, GREY_16))
    open_image(save(tmp_path / "night.png", color=(9, 9, 9)))
    assert not caplog.messages
    for name, kind in (("grey", GREY_16), ("rgb", RGB_16)):
        dark = levels if kind == GREY_16 else np.repeat(levels[..., None], 3, axis=2)
        assert np.asarray(open_image(png_16(tmp_path / f"{name}.png", dark, kind)))[0, :, 0].max() in (15, 16)
    (message,) = caplog.messages
    assert message.startswith(f"{tmp_path} has pictures of 16 bits whose levels end at 4095")


@pytest.mark.parametrize("kind", [0, 2])
def test_a_color_that_is_not_seen_is_found_among_sixteen_bits(tmp_path, kind):
    levels = np.array([[0, 257, 32768, 65535]], np.uint16)
    path = png_16(tmp_path / "a.png", levels if kind == GREY_16 else np.repeat(levels[..., None], 3, axis=2), kind)
    content, key = path.read_bytes(), b"tRNS" + struct.pack(">H", 32768) * (kind + 1)
    chunk = struct.pack(">I", len(key) - 4) + key + struct.pack(">I", zlib.crc32(key))
    path.write_bytes(content[:33] + chunk + content[33:])  # behind the signature and the head
    assert np.asarray(open_image(path))[0, :, 0].tolist() == [0, 1, 255, 255]
    with Image.open(path) as image:
        assert np.asarray(upright_alpha(image)).tolist() == [[255, 255, 0, 255]]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.pbm", b"P4 2 1\n\x40", [255, 0]),
        ("a.pgm", b"P5 2 1 255\n\x07\xc8", [7, 200]),
        ("a.pgm", b"P5 2 1 65535\n\x01\x01\xff\xff", [1, 255]),
        ("a.ppm", b"P6 2 1 255\n\x07\x07\x07\xc8\xc8\xc8", [7, 200]),
        ("a.pnm", b"P3 2 1 15\n0 0 0 15 15 15", [0, 255]),
    ],
)
def test_portable_maps_are_read(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    assert list_images(tmp_path) == [tmp_path / name]
    assert np.asarray(open_image(tmp_path / name))[0, :, 1].tolist() == expected


def test_heic_that_is_not_read_is_told_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_HEIC_IS_READ", False)
    (tmp_path / "a.jpg").write_bytes(struct.pack(">I4s4s", 24, b"ftyp", b"heic") + b"no picture")
    assert reason(tmp_path / "a.jpg").endswith("are read with pip install 'lit-ghibli[heic]'")


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path):
    heif = pytest.importorskip("pillow_heif", reason="of lit-ghibli[heic]")
    exif = Image.Exif()
    exif[0x0112] = 6
    heif.from_pillow(Image.new("RGB", (64, 48), (200, 40, 90))).save(tmp_path / "a.HEIC", exif=exif.tobytes())
    assert list_images(tmp_path) == [tmp_path / "a.HEIC"]
    image = open_image(tmp_path / "a.HEIC")
    assert image.size == (48, 64)
    assert np.abs(np.subtract(image.getpixel((20, 20)), (200, 40, 90))).max() < 6
    assert file_kind(tmp_path / "a.HEIC") == "jpeg"


def test_cmyk_jpeg_with_adobe_marker_is_not_negative(tmp_path):
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # magenta and yellow ink: red
    ink.save(tmp_path / "cmyk.jpg", quality=95)
    data = (tmp_path / "cmyk.jpg").read_bytes()
    assert b"Adobe" in data  # the marker that says: stored inverted
    red, green, blue = pixel(tmp_path / "cmyk.jpg")
    assert red > 250
    assert green < 5
    assert blue < 5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = np.zeros((6, 4, 3), np.uint8)
    upright[0, 0], upright[0, -1], upright[-1, 0] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    undo = {  # how a camera that is held that way stores the upright scene
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(undo[orientation])).save(tmp_path / "photo.png", exif=exif)
    assert np.array_equal(np.asarray(open_image(tmp_path / "photo.png")), upright)


def test_damaged_exif_does_not_cost_the_picture(tmp_path):
    save(tmp_path / "photo.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x02\0\xff\xff\xff\xff")
    save(tmp_path / "worse.jpg", exif=b"Exif\0\0nonsense")
    assert open_image(tmp_path / "photo.jpg").size == (12, 8)
    assert open_image(tmp_path / "worse.jpg").size == (12, 8)


@pytest.mark.parametrize("extension", ["tif", "gif"])
def test_of_several_pages_or_frames_the_first_is_read(tmp_path, extension):
    red, blue = (Image.new("RGB", (6, 4), color) for color in ("red", "blue"))
    red.save(tmp_path / f"a.{extension}", save_all=True, append_images=[blue])
    with Image.open(tmp_path / f"a.{extension}") as raw:
        assert raw.n_frames == 2
    assert pixel(tmp_path / f"a.{extension}") == (255, 0, 0)


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_numbers_without_a_known_scale_are_refused(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "a.tif")
    assert f"pixels of kind {mode}" in reason(tmp_path / "a.tif")


def test_multi_picture_jpeg_is_read_as_its_first_picture(tmp_path):
    path = tmp_path / "phone.jpg"
    second = Image.new("RGB", (6, 4), "blue")
    Image.new("RGB", (12, 8), "red").save(path, format="MPO", save_all=True, append_images=[second])
    with Image.open(path) as raw:
        assert (raw.format, raw.n_frames) == ("MPO", 2)
    image = open_image(path)
    assert image.size == (12, 8)
    assert image.getpixel((3, 3))[0] > 250


# --- opening: refusals -------------------------------------------------------


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "bmp"])
def test_truncated_files_are_refused(tmp_path, extension):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"photo.{extension}"
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "truncated or damaged" in reason(path)


def special_files(folder: Path, monkeypatch) -> dict[Path, str]:
    """Files of every kind that must not be opened, or not to the end, and what is said of each."""
    folder.mkdir(exist_ok=True)
    names = {
        "pipe.jpg": "is no plain file but a pipe",
        "socket.jpg": "is no plain file but a socket",
        "zero.jpg": "is no plain file but a device",
        "gone.jpg": "cannot be read (No such file or directory)",
        "loop.jpg": "cannot be read (Too many levels of symbolic links)",
        "sparse.jpg": "is too large for a picture (40.0 GB)",
    }
    os.mkfifo(folder / "pipe.jpg")
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("socket.jpg")  # not by its whole path, which has to be short
    (folder / "zero.jpg").symlink_to("/dev/zero")
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "sparse.jpg").touch()
    os.truncate(folder / "sparse.jpg", 40_000_000_000)
    return {folder / name: reason for name, reason in names.items()}


def test_special_files_are_refused_and_neither_waited_for_nor_read(tmp_path, monkeypatch):
    special = special_files(tmp_path / "data", monkeypatch)
    assert list_images(tmp_path / "data") == sorted(special)
    for path, said in special.items():
        assert reason(path) == said
        with pytest.raises(ImageFileError, match=re.escape(said)):
            inspect_image(path)
    check_disjoint(list(special), list(special))
    with pytest.raises(FolderError) as caught:
        list(decode_all(special, Image.Image.copy, on_bad_file="error"))
    assert all(f"{path} {said}" in str(caught.value) for path, said in special.items())


def test_files_that_are_no_images_are_refused(tmp_path):
    (tmp_path / "zero.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    assert reason(tmp_path / "zero.jpg") == "is empty (0 bytes)"
    assert "is not an image" in reason(tmp_path / "text.jpg")
    assert "No such file" in reason(tmp_path / "dangling.jpg")


def test_another_format_behind_the_name_is_named(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.jpg", format="ICO")
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png", format="PCX")
    assert "is of the format ICO inside" in reason(tmp_path / "a.jpg")
    assert "is of the format PCX inside" in reason(tmp_path / "b.png")
    save(tmp_path / "c.png", format="JPEG")  # a JPEG named .png is harmless
    assert open_image(tmp_path / "c.png").size == (12, 8)


@pytest.mark.parametrize("extension", ["png", "webp", "gif", "tif", "avif"])
def test_of_several_pictures_the_first_is_read_and_said_so_once(tmp_path, caplog, extension):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "green", "blue")]
    for name in ("a", "b"):
        frames[0].save(tmp_path / f"{name}.{extension}", save_all=True, append_images=frames[1:])
        assert np.abs(np.subtract(open_image(tmp_path / f"{name}.{extension}").getpixel((8, 8)), (255, 0, 0))).max() < 6
    assert caplog.messages == [
        f"{tmp_path} has animations or files of several pages, of which the first picture is read"
    ]


def test_a_damaged_later_frame_is_no_loss(tmp_path):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "green")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    content = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(content[:-8])
    assert open_image(tmp_path / "a.gif").getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("limit", [60, 40])  # 96 pixels: above the limit Pillow warns, above its double it raises
def test_decompression_bombs_are_refused_and_no_warning_leaks(tmp_path, monkeypatch, limit):
    path = save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        assert "is too large to decode safely (0.0 megapixels of at most 0.0)" in reason(path)
    assert leaked == []


def test_error_survives_pickling_between_processes(tmp_path):
    error = pickle.loads(pickle.dumps(ImageFileError(tmp_path / "ü.jpg", "is empty")))
    assert (error.path, error.reason) == (tmp_path / "ü.jpg", "is empty")


# --- decoding a list ---------------------------------------------------------


def test_decode_all_keeps_the_order_and_converts_in_threads(tmp_path):
    paths = [save(tmp_path / f"{i}.bmp", size=(i + 1, 5)) for i in range(40)]
    threads = set()

    def width(image):
        threads.add(threading.get_ident())
        return image.width

    decoded = list(decode_all(paths, width, on_bad_file="error"))
    assert decoded == [(path, i + 1) for i, path in enumerate(paths)]
    assert threading.get_ident() not in threads


def test_every_bad_file_is_reported_after_the_whole_list(tmp_path):
    good = [save(tmp_path / f"good {i}.png") for i in range(2)]
    small = save(tmp_path / "small.png", size=(40, 30))
    large = [save(tmp_path / f"large {i}.png", size=(64, 64)) for i in range(2)]
    (tmp_path / "empty.png").touch()
    paths = [tmp_path / "empty.png", large[0], small, *good, large[1]]
    decoded = decode_all(paths, AtLeast(64), on_bad_file="error")
    assert [next(decoded)[0], next(decoded)[0]] == large
    with pytest.raises(FolderError) as caught:
        next(decoded)
    message = str(caught.value)
    assert message.startswith("4 of 6 images cannot be used")
    assert f"{tmp_path / 'empty.png'} is empty" in message
    assert f"{small} is 40x30, smaller than 64 pixels" in message
    assert all(str(path) in message for path in good)


def test_a_long_list_of_bad_files_is_whole(tmp_path):
    paths = [tmp_path / f"{i:02d}.png" for i in range(27)]
    with pytest.raises(FolderError) as caught:
        list(decode_all(paths, Image.Image.copy, on_bad_file="error"))
    assert all(str(path) in str(caught.value) for path in paths)


def test_skip_logs_the_bad_files_and_too_few_is_an_error(tmp_path, caplog):
    paths = [save(tmp_path / "1.png"), tmp_path / "gone.png", save(tmp_path / "2.png")]
    with caplog.at_level(logging.WARNING):
        decoded = list(decode_all(paths, lambda image: image.size, on_bad_file="skip"))
    assert [path.name for path, _ in decoded] == ["1.png", "2.png"]
    assert "1 of 3 images" in caplog.text
    assert "gone.png" in caplog.text
    with pytest.raises(FolderError, match="2 of 3 can be used, but at least 3"):
        list(decode_all(paths, lambda image: image.size, on_bad_file="skip", min_images=3))
    with pytest.raises(ValueError, match="'error' or 'skip', got 'ignore'"):
        list(decode_all(paths, lambda image: image.size, on_bad_file="ignore"))


# --- closing -----------------------------------------------------------------


def test_open_files_are_closed(tmp_path):
    path = save(tmp_path / "1.jpg")
    Image.new("RGB", (4, 4)).save(tmp_path / "2.jpg", format="ICO")
    before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
    image = open_image(path)
    reason(tmp_path / "2.jpg")
    after = os.listdir("/proc/self/fd") if before else []
    assert len(after) == len(before)
    image.save(io.BytesIO(), "png")  # and the picture does not need its file
