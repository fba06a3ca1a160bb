"""Profiles are written here by hand, after ICC.1, and what they mean is computed from chromaticities in float64."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lit_ghibli.data.image_files import open_image

D65, D50 = (0.3127, 0.3290), (0.3457, 0.3585)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
PROPHOTO = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))
COLORS = np.array(
    [[[0, 0, 0], [255, 255, 255], [128, 128, 128], [200, 120, 90], [60, 140, 70], [90, 100, 180]]], np.uint8
)


def xyz(point: tuple[float, float]) -> np.ndarray:
    return np.array([point[0] / point[1], 1.0, (1 - point[0] - point[1]) / point[1]])


def to_d50(primaries, white) -> np.ndarray:
    """The matrix from linear RGB to XYZ under D50, adapted after Bradford."""
    columns = np.stack([xyz(point) for point in primaries], axis=1)
    matrix = columns * np.linalg.solve(columns, xyz(white))
    scale = (BRADFORD @ xyz(D50)) / (BRADFORD @ xyz(white))
    return np.linalg.inv(BRADFORD) @ np.diag(scale) @ BRADFORD @ matrix


def decode_srgb(values):
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def encode_srgb(light):
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)


def fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def curve(gamma: float | None) -> bytes:
    """A power, or the curve of sRGB."""
    if gamma is not None:
        return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    parts = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return b"para" + struct.pack(">IHH", 0, 3, 0) + b"".join(map(fixed, parts))


def profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile for displays."""
    table, body, offset = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", 132 + 12 * len(tags) + len(body), b"test", 0x04200000, b"mntr", space, b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + b"".join(map(fixed, (0.9642, 1.0, 0.8249)))
    return header.ljust(128, b"\0") + table + body


def matrix_profile(primaries, white, gamma: float | None) -> bytes:
    columns = to_d50(primaries, white).T
    tags = {
        name: b"XYZ " + bytes(4) + b"".join(map(fixed, column))
        for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)
    }
    return profile(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(gamma)))


@pytest.mark.parametrize("extension", ["png", "tif", "webp"])
@pytest.mark.parametrize(
    ("primaries", "white", "gamma"),
    [(P3, D65, None), (ADOBE, D65, 563 / 256), (PROPHOTO, D50, 1.8), (SRGB, D65, 1.0)],
    ids=["Display P3", "Adobe RGB", "ProPhoto", "gamma 1"],
)
def test_colors_are_those_of_the_profile(tmp_path, primaries, white, gamma, extension):
    path = tmp_path / f"a.{extension}"
    options = {"lossless": True} if extension == "webp" else {}
    Image.fromarray(COLORS).save(path, icc_profile=matrix_profile(primaries, white, gamma), **options)
    values = COLORS / 255.0
    light = decode_srgb(values) if gamma is None else values**gamma
    expected = encode_srgb((light @ (np.linalg.inv(to_d50(SRGB, D65)) @ to_d50(primaries, white)).T).clip(0, 1)) * 255
    assert np.abs(expected - COLORS).max() > 5, "the profile changes something"
    assert np.abs(np.asarray(open_image(path)) - expected).max() <= 1.5


def test_srgb_changes_no_bit(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=matrix_profile(SRGB, D65, None))
    assert np.array_equal(np.asarray(open_image(tmp_path / "a.png")), pixels)


@pytest.mark.parametrize(
    ("mode", "name", "data"),
    [
        ("RGB", "a.jpg", b"no profile"),
        ("RGB", "a.png", matrix_profile(P3, D65, None)[:200]),
        ("RGB", "a.png", profile(b"RGB ", {})),
        ("RGB", "a.png", profile(b"GRAY", {b"kTRC": curve(1.0)})),
        ("L", "a.png", profile(b"CMYK", {})),
    ],
)
def test_a_profile_of_no_use_is_passed_over(tmp_path, mode, name, data):
    picture = Image.new(mode, (16, 16), 100 if mode == "L" else (100, 100, 100))
    picture.save(tmp_path / name, icc_profile=data)
    assert open_image(tmp_path / name).getpixel((3, 3)) == (100, 100, 100)


@pytest.mark.parametrize("data", [profile(b"GRAY", {b"kTRC": curve(1.0)}), matrix_profile(SRGB, D65, 1.0)])
@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_pictures_have_profiles_of_either_kind(tmp_path, mode, data):
    Image.new(mode, (4, 4), 51 if mode == "L" else (51, 255)).save(tmp_path / "a.png", icc_profile=data)
    expected = round(255 * float(encode_srgb(np.float64(0.2))))
    assert np.abs(np.subtract(open_image(tmp_path / "a.png").getpixel((0, 0)), expected)).max() <= 1


def test_transparency_is_laid_on_the_white_of_srgb(tmp_path):
    picture = Image.new("RGBA", (4, 4), (51, 51, 51, 102))  # 0.4 of a grey of 0.2, in light
    picture.save(tmp_path / "a.png", icc_profile=matrix_profile(SRGB, D65, 1.0))
    expected = 0.4 * 255 * float(encode_srgb(np.float64(0.2))) + 0.6 * 255
    assert np.abs(np.subtract(open_image(tmp_path / "a.png").getpixel((0, 0)), expected)).max() <= 1.5


@pytest.mark.parametrize("gamma", [1.0, 1 / 1.8, 0.45455])
def test_the_gamma_of_a_png_counts(tmp_path, gamma):
    Image.new("RGB", (4, 4), (51, 51, 51)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    chunk = b"gAMA" + struct.pack(">I", round(gamma * 100_000))
    chunk = struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])  # behind the header chunk
    expected = 51 if gamma == 0.45455 else round(255 * float(encode_srgb(np.float64(0.2 ** (1 / gamma)))))
    assert open_image(tmp_path / "a.png").getpixel((0, 0)) == (expected,) * 3
