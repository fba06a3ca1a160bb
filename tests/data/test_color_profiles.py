"""Profiles are written here by hand, after ICC.1, and what they mean is computed from chromaticities in float64."""

import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from lit_ghibli.data.image_files import ImageFileError, open_image

D65, D50 = (0.3127, 0.3290), (0.3457, 0.3585)
BT2020 = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
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


def profile(space: bytes, tags: dict[bytes, bytes], relative_to: bytes = b"XYZ ", kind: bytes = b"mntr") -> bytes:
    """An ICC profile, by default for displays."""
    table, body, offset = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", 132 + 12 * len(tags) + len(body), b"test", 0x04200000, kind, space, relative_to)
    header += bytes(12) + b"acsp" + bytes(28) + b"".join(map(fixed, (0.9642, 1.0, 0.8249)))
    return header.ljust(128, b"\0") + table + body


def matrix_profile(primaries, white, gamma: float | None) -> bytes:
    columns = to_d50(primaries, white).T
    tags = {
        name: b"XYZ " + bytes(4) + b"".join(map(fixed, column))
        for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)
    }
    return profile(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(gamma)))


def in_srgb(primaries, white, gamma: float | None) -> np.ndarray:
    """What the colors are in sRGB, of 255, if they are meant in another space."""
    light = decode_srgb(COLORS / 255.0) if gamma is None else (COLORS / 255.0) ** gamma
    return encode_srgb((light @ (np.linalg.inv(to_d50(SRGB, D65)) @ to_d50(primaries, white)).T).clip(0, 1)) * 255


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
    expected = in_srgb(primaries, white, gamma)
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


def chunk(name: bytes, *values: int, form: str = "I") -> bytes:
    """A chunk of a PNG."""
    data = struct.pack(f">{len(values)}{form}", *values)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def save_with(path, *chunks: bytes, **options) -> None:
    """The colors as a PNG with chunks behind that of its head."""
    Image.fromarray(COLORS).save(path, **options)
    content = path.read_bytes()
    path.write_bytes(content[:33] + b"".join(chunks) + content[33:])


def chromaticities(primaries, white=D65) -> bytes:
    return chunk(b"cHRM", *(round(value * 100_000) for point in (white, *primaries) for value in point))


GAMMA = chunk(b"gAMA", 45455)
PLAIN = (SRGB, D65, None)


@pytest.mark.parametrize(
    ("chunks", "meant"),
    [
        ([chunk(b"gAMA", 100_000)], (SRGB, D65, 1.0)),
        ([chunk(b"gAMA", 55556)], (SRGB, D65, 1.8)),
        ([GAMMA], PLAIN),
        ([GAMMA, chromaticities(SRGB)], PLAIN),
        ([GAMMA, chromaticities(ADOBE)], (ADOBE, D65, 2.2)),
        ([chunk(b"gAMA", 55556), chromaticities(PROPHOTO, D50)], (PROPHOTO, D50, 1.8)),
        ([chromaticities(ADOBE)], PLAIN),  # without a curve, they say nothing
        ([chunk(b"sRGB", 0, form="B"), chunk(b"gAMA", 100_000)], PLAIN),
        ([chunk(b"gAMA", 100_000), chromaticities(((0, 0), (0, 0), (0, 0)))], PLAIN),
        ([chunk(b"gAMA", 100_000), chromaticities(((0.3, 0.3), (0.3, 0.3), (0.3, 0.3)))], PLAIN),
        ([chunk(b"cICP", 12, 13, 0, 1, form="B")], (P3, D65, None)),
        ([chunk(b"cICP", 9, 8, 0, 1, form="B"), GAMMA], (BT2020, D65, 1.0)),
        ([chunk(b"cICP", 1, 13, 0, 1, form="B"), chunk(b"gAMA", 100_000)], PLAIN),
    ],
)
def test_what_a_png_says_of_its_colors_counts(tmp_path, chunks, meant):
    save_with(tmp_path / "a.png", *chunks)
    found = np.asarray(open_image(tmp_path / "a.png"))
    assert np.abs(found - in_srgb(*meant)).max() <= (0.01 if meant == PLAIN else 1.5)


def test_of_two_marks_the_stronger_counts(tmp_path):
    """The codes of a PNG before its profile, that before the mark of EXIF."""
    to_gamma_1 = {"icc_profile": matrix_profile(SRGB, D65, 1.0)}
    save_with(tmp_path / "a.png", chunk(b"cICP", 12, 13, 0, 1, form="B"), **to_gamma_1)
    assert np.abs(open_image(tmp_path / "a.png") - in_srgb(P3, D65, None)).max() <= 1.5
    Image.fromarray(COLORS).save(tmp_path / "b.webp", lossless=True, exif=adobe_mark(), **to_gamma_1)
    assert np.abs(open_image(tmp_path / "b.webp") - in_srgb(SRGB, D65, 1.0)).max() <= 1.5


def adobe_mark(mark: str = "R03") -> bytes:
    """EXIF data as of cameras that write no profile."""
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] = 0xFFFF  # in none that EXIF knows
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: mark, 2: b"0100"}
    return exif.tobytes()


@pytest.mark.parametrize(("mark", "meant"), [("R03", (ADOBE, D65, 563 / 256)), ("R98", PLAIN)])
@pytest.mark.parametrize("extension", ["png", "webp", "jpg"])
def test_cameras_mark_adobe_rgb_in_their_exif_data(tmp_path, mark, meant, extension):
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(extension, {})
    pixels = COLORS.repeat(16, 0).repeat(16, 1)
    Image.fromarray(pixels).save(tmp_path / f"a.{extension}", exif=adobe_mark(mark), **options)
    found = np.asarray(open_image(tmp_path / f"a.{extension}"))[8, 8::16]
    assert np.abs(found - in_srgb(*meant)).max() <= (6 if extension == "jpg" else 1.5)


@pytest.mark.parametrize(("code", "name"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_refused(tmp_path, code, name):
    save_with(tmp_path / "a.png", chunk(b"cICP", 9, code, 0, 1, form="B"))
    with pytest.raises(ImageFileError, match=rf"a.png is of high dynamic range \({name}\), .*; save it as sRGB"):
        open_image(tmp_path / "a.png")


def cmyk_profile(inks: np.ndarray) -> bytes:
    """A printer's profile: the Lab color of each combination of full inks, in lines of 2x2x2x2, and mixtures linear."""
    ramp = bytes(range(256))
    lab = np.round((inks + np.array([0, 128, 128])) * [255 / 100, 1, 1]).astype(np.uint8)
    identity = b"".join(map(fixed, np.eye(3).ravel()))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + lab.tobytes() + ramp * 3
    return profile(b"CMYK", {b"A2B0": table}, b"Lab ", b"prtr")


def lab_in_srgb(lab) -> np.ndarray:
    """CIE 1976 under D50 to sRGB, of 255."""
    height = (lab[0] + 16) / 116
    ratios = np.array([height + lab[1] / 500, height, height - lab[2] / 200])
    ratios = np.where(ratios > 6 / 29, ratios**3, 3 * (6 / 29) ** 2 * (ratios - 4 / 29))
    return encode_srgb((np.linalg.inv(to_d50(SRGB, D65)) @ (ratios * xyz(D50))).clip(0, 1)) * 255


@pytest.mark.parametrize("extension", ["jpg", "tif"])
def test_printed_colors_are_those_of_the_inks_that_the_profile_names(tmp_path, extension):
    """Of a press with odd inks, which no conversion without its profile could know."""
    inks = np.array([[[[[100 - 40 * c - 30 * m - 15 * y - 20 * (k and not c), 30 * m - 20 * c, 40 * y - 10 * k]
                         for k in (0, 1)] for y in (0, 1)] for m in (0, 1)] for c in (0, 1)], float)  # fmt: skip
    options = {"quality": 100, "subsampling": 0} if extension == "jpg" else {}
    for amounts in [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 1, 0), (0, 0, 1, 1)]:
        picture = Image.new("CMYK", (16, 16), tuple(255 * amount for amount in amounts))
        picture.save(tmp_path / f"a.{extension}", icc_profile=cmyk_profile(inks), **options)
        expected = lab_in_srgb(inks[amounts])
        assert np.abs(open_image(tmp_path / f"a.{extension}").getpixel((8, 8)) - expected).max() <= 4, amounts
        picture.save(tmp_path / f"b.{extension}", **options)
        plain = np.subtract(
            open_image(tmp_path / f"b.{extension}").getpixel((8, 8)), picture.convert("RGB").getpixel((8, 8))
        )
        assert np.abs(plain).max() <= 2, "without a profile, as Pillow does it"


@pytest.mark.parametrize(
    ("codes", "meant"),
    [((12, 13), (P3, D65, None)), ((1, 4), (SRGB, D65, 2.2)), ((1, 13), PLAIN), ((2, 2), PLAIN), ((9, 16), None)],
)
def test_an_avif_has_marks_in_place_of_a_profile(tmp_path, codes, meant):
    path = tmp_path / "a.avif"
    Image.fromarray(COLORS.repeat(16, 0).repeat(16, 1)).save(path, quality=100, subsampling="4:4:4")
    content = path.read_bytes()
    at = content.index(b"colrnclx") + 8
    path.write_bytes(content[:at] + struct.pack(">HH", *codes) + content[at + 4 :])
    if meant is None:
        with pytest.raises(ImageFileError, match=r"of high dynamic range \(PQ\)"):
            open_image(path)
        return
    found = np.asarray(open_image(path))[8, 8::16]
    assert np.abs(found - in_srgb(*meant)).max() <= 5
