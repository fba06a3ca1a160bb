"""Color spaces that a picture's file names by a mark instead of a profile: the profiles that these stand for."""

import contextlib
import re
import struct
from functools import lru_cache

import numpy as np
from PIL import ExifTags, Image

# Chromaticities: x and y of red, green and blue, and of white.
_Primaries = tuple[tuple[float, float], ...]
_D65 = (0.3127, 0.3290)
_SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), 563 / 256  # and the exponent of its curve
_ADOBE_MARK = "R03"  # of EXIF's interoperability index, by cameras that write no profile
# Code points of ITU-T H.273. All other primaries, and the curves of video, are taken for sRGB's.
_CODED_PRIMARIES = {
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
}
_CODED_EXPONENTS = {4: 2.2, 5: 2.8, 8: 1.0}
_HIGH_RANGE = {16: "PQ", 18: "HLG"}

_LARGEST_HEAD = 65_536  # bytes of an AVIF in which its properties are looked for, which stand before its pixels
_SRGB_GAMMA = 0.45455  # of the gAMA chunk that stands for sRGB's curve, also in files that say no more
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = (0.9642, 1.0, 0.8249)  # XYZ of the white that profiles are relative to


def profile_of(image: Image.Image, codes: tuple[int, int] | None) -> bytes | None:
    """The ICC profile of a picture that is loaded, its own or that of the marks in its file; None for sRGB.

    Args:
        image: As Pillow has opened it.
        codes: As of `color_codes`, which count more than all else.
    """
    if codes:
        primaries = _CODED_PRIMARIES.get(codes[0], _SRGB)
        return _profile(primaries, _D65, _CODED_EXPONENTS.get(codes[1]))
    if profile := image.info.get("icc_profile"):
        return profile
    if "srgb" in image.info:
        return None
    if gamma := image.info.get("gamma"):
        white, *primaries = zip(*[iter(image.info.get("chromaticity", (*_D65, *sum(_SRGB, ()))))] * 2, strict=True)
        is_srgb = abs(gamma - _SRGB_GAMMA) < 0.01 and np.allclose([white, *primaries], [_D65, *_SRGB], atol=0.002)
        return None if is_srgb else _profile(tuple(primaries), white, 1 / gamma)
    return _profile(_ADOBE_RGB[0], _D65, _ADOBE_RGB[1]) if _mark(image) == _ADOBE_MARK else None


def color_codes(image: Image.Image) -> tuple[int, int] | None:
    """Code points of primaries and curve of a picture that is not loaded yet; None without them.

    A HEIC and an AVIF have them where they have no profile, a PNG in its cICP chunk; Pillow passes over the last two.
    Sources: PNG 3rd edition, 11.3.2.6; ISO/IEC 14496-12, 12.1.5.
    """
    if image.format == "AVIF" and image.fp and not image.info.get("icc_profile"):
        place = image.fp.tell()
        image.fp.seek(0)
        head = image.fp.read(_LARGEST_HEAD)
        image.fp.seek(place)
        found = re.search(rb"\0\0\0\x13colrnclx(..)(..)", head.partition(b"meta")[2], re.DOTALL)
        return found and tuple(int.from_bytes(code, "big") for code in found.groups())
    if image.format == "HEIF" and (codes := image.info.get("nclx_profile")) and not image.info.get("icc_profile"):
        return codes["color_primaries"], codes["transfer_characteristics"]
    if image.format != "PNG" or image.fp is None:
        return None
    place, codes = image.fp.tell(), None
    image.fp.seek(8)
    while len(head := image.fp.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        if head[4:] == b"cICP":
            codes = tuple(image.fp.read(2))
            break
        image.fp.seek(int.from_bytes(head[:4], "big") + 4, 1)
    image.fp.seek(place)
    return codes


def high_range(codes: tuple[int, int] | None) -> str | None:
    """The curve's name if a picture holds amounts of light beyond white, which sRGB has no numbers for."""
    return _HIGH_RANGE.get(codes[1]) if codes else None


def _mark(image: Image.Image) -> str | None:
    """EXIF's interoperability index; unreadable EXIF data is no reason to lose the picture."""
    try:
        return image.getexif().get_ifd(ExifTags.IFD.Interop).get(ExifTags.Interop.InteropIndex, "").strip("\0 ")
    except Exception:  # Pillow raises many kinds on damaged data
        return None


@lru_cache(maxsize=16)
def _profile(primaries: _Primaries, white: tuple[float, float], exponent: float | None) -> bytes | None:
    """An ICC profile of displays with these chromaticities, and a power or, for None, sRGB's curve.

    None where they are no chromaticities of anything. Source: ICC.1:2010, 7, 8.3.3, 10.15, and Annex E.
    """
    curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045) if exponent is None else (exponent,)
    with contextlib.suppress(ArithmeticError, ValueError, struct.error, np.linalg.LinAlgError):
        columns = np.array([_xyz(point) for point in primaries]).T
        columns = columns * np.linalg.solve(columns, _xyz(white))
        scale = (_BRADFORD @ _D50) / (_BRADFORD @ _xyz(white))
        adapted = np.linalg.solve(_BRADFORD, scale[:, None] * (_BRADFORD @ columns))
        curve_tag = b"para" + struct.pack(">IHH", 0, 0 if exponent else 3, 0) + _fixed(curve)
        tags = {
            name + b"XYZ": b"XYZ " + bytes(4) + _fixed(xyz)
            for name, xyz in zip((b"r", b"g", b"b"), adapted.T, strict=True)
        }
        return _file(
            {
                b"wtpt": b"XYZ " + bytes(4) + _fixed(_D50),
                **tags,
                **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve_tag),
            }
        )
    return None


def _xyz(point: tuple[float, float]) -> tuple[float, float, float]:
    x, y = map(float, point)
    return x / y, 1.0, (1 - x - y) / y


def _fixed(values: "np.ndarray | tuple[float, ...]") -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _file(tags: dict[bytes, bytes]) -> bytes:
    """The tags of a profile with the header and the table that belong before them."""
    start = 132 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4xI4s4s4s12x4s28x", start + len(body), 0x04200000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    return (header + _fixed(_D50)).ljust(128, b"\0") + table + body
