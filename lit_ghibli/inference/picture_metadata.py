"""What the file of a picture keeps of its photograph's besides pixels: EXIF data, XMP, density and comments."""

import contextlib
from functools import cache
from pathlib import Path
from typing import Any
from xml.dom import minidom

from PIL import ExifTags, Image, ImageCms, PngImagePlugin

_LARGEST = 65_000  # bytes of each in a JPEG, whose segments count them in 16 bits
_SRGB = 1  # of the EXIF color space; pictures are sRGB, whatever their photograph was
_TAGS = "ImageDescription Make Model XResolution YResolution ResolutionUnit Software DateTime Artist Copyright"
# What a TIFF says of the photograph, and not of how its own pixels lie.
_DESCRIPTIVE = {ExifTags.Base[tag] for tag in f"{_TAGS} ExifOffset GPSInfo".split()}
# What XMP says of the file that it was in: how its pixels lie, and films, gain maps and previews behind them.
_XMP_OF_FILES = {
    "http://ns.adobe.com/tiff/1.0/": ("Orientation", "ImageWidth", "ImageLength"),
    "http://ns.adobe.com/exif/1.0/": ("ColorSpace", "PixelXDimension", "PixelYDimension"),
    "http://ns.adobe.com/photoshop/1.0/": ("ICCProfile",),
    "http://ns.adobe.com/xap/1.0/": ("Thumbnails",),
    "http://ns.adobe.com/xmp/note/": (),  # of all: every name
    "http://ns.adobe.com/hdr-gain-map/1.0/": (),
    "http://ns.apple.com/HDRGainMap/1.0/": (),
    "http://ns.google.com/photos/1.0/camera/": (),
    "http://ns.google.com/photos/1.0/container/": (),
    "http://ns.google.com/photos/1.0/depthmap/": (),
    "http://ns.google.com/photos/1.0/image/": (),
}


def kept_metadata(photo: Image.Image, kind: str, size: tuple[int, int], software: str = "") -> dict[str, Any]:
    """Options of Pillow's writer with what holds of an upright picture in sRGB, too; thumbnails do not.

    Args:
        photo: As Pillow has opened it; damaged data are left out.
        kind: Pillow's name of the picture's format, such as ``JPEG``; what it has no place for is left out.
        size: Width and height of the picture.
        software: What has made the picture, in the place of what has made the photograph; ASCII.
    """
    texts = {key: text for key, text in getattr(photo, "text", {}).items() if not _is_profile(key)}  # loads a PNG
    exif, xmp = _exif(photo, size), _xmp(photo)
    if kind == "JPEG" and len(exif.tobytes()) > _LARGEST - len(software):
        exif = Image.Exif()
    exif.update(said_of(software))
    comment = photo.info.get("comment") or texts.get("Comment", "")
    comment = comment.encode() if isinstance(comment, str) else comment
    kept: dict[str, Any] = {"exif": exif.tobytes() if exif else b"", "xmp": xmp, "comment": comment}
    if kind == "JPEG":
        kept = {key: content for key, content in kept.items() if len(content) <= _LARGEST}
    kept = {key: content for key, content in kept.items() if content}
    kept["icc_profile"] = srgb_profile()
    if min(dpi := photo.info.get("dpi", (0, 0))) > 1:  # a TIFF that says nothing has 1
        kept["dpi"] = tuple(map(float, dpi))
    if kind == "PNG":
        kept["pnginfo"] = _chunks(texts | ({"Comment": comment.decode(errors="replace")} if comment else {}), xmp)
    if kind == "TIFF":
        if xmp:
            exif[ExifTags.Base.XMLPacket] = xmp
        kept["exif"] = exif
        if not exif.get_ifd(ExifTags.IFD.Exif) and not exif.get_ifd(ExifTags.IFD.GPSInfo):
            kept["compression"] = "tiff_lzw"  # by libtiff, through which Pillow writes no tags below tags
    return kept


def said_of(software: str) -> Image.Exif:
    """EXIF data that say what has made a picture, which `software_of` reads; none where that is empty."""
    exif = Image.Exif()
    if software:
        exif[ExifTags.Base.Software] = software
    return exif


def software_of(path: Path) -> str:
    """What a picture's file says that has made it; empty where it says nothing, or is no picture."""
    try:
        with Image.open(path) as picture:
            return str(picture.getexif().get(ExifTags.Base.Software, ""))
    except Exception:  # Pillow raises many kinds on damaged data
        return ""


@cache
def srgb_profile() -> bytes:
    """An ICC profile of sRGB, of 588 bytes, without the time at which it is made."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + bytes(12) + profile[36:]


def _exif(photo: Image.Image, size: tuple[int, int]) -> Image.Exif:
    """EXIF data; none where they are damaged, which `open_image` then takes as upright, too."""
    try:
        exif = photo.getexif()
        for tag in set(exif) - _DESCRIPTIVE if photo.format == "TIFF" else ():
            del exif[tag]
        if ExifTags.Base.Orientation in exif:
            exif[ExifTags.Base.Orientation] = 1
        details = exif.get_ifd(ExifTags.IFD.Exif)
        details.pop(ExifTags.IFD.Interop, None)  # by which some cameras say Adobe RGB
        new = {"ColorSpace": _SRGB, "ExifImageWidth": size[0], "ExifImageHeight": size[1]}
        details.update({ExifTags.Base[tag]: value for tag, value in new.items() if ExifTags.Base[tag] in details})
        exif.get_ifd(ExifTags.IFD.GPSInfo)
        exif.tobytes()
    except Exception:  # Pillow raises many kinds on damaged data
        return Image.Exif()
    return exif


def _xmp(photo: Image.Image) -> bytes:
    """XMP without what is of the photograph's file; none where it is damaged."""
    xmp = photo.info.get("xmp", b"")
    with contextlib.suppress(Exception):  # the parser raises many kinds
        packet = minidom.parseString(xmp.rstrip(b"\0 ") if isinstance(xmp, bytes) else xmp)
        for element in packet.getElementsByTagName("*"):
            for attribute in list((element.attributes or {}).values()):
                if _is_of_file(attribute):
                    element.removeAttributeNode(attribute)
            if _is_of_file(element) and element.parentNode:
                element.parentNode.removeChild(element)
        return b"".join(node.toxml("utf-8") for node in packet.childNodes)
    return b""


def _is_of_file(node: minidom.Node) -> bool:
    names = _XMP_OF_FILES.get(node.namespaceURI)
    return names is not None and (not names or node.localName in names)


def _is_profile(key: str) -> bool:
    """Whether a PNG's text is what other programs and this one keep as data."""
    return key == "XML:com.adobe.xmp" or key.startswith("Raw profile type")


def _chunks(texts: dict[str, str], xmp: bytes) -> PngImagePlugin.PngInfo:
    chunks = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        chunks.add_text(key, text)
    if xmp:
        chunks.add_itxt("XML:com.adobe.xmp", xmp.decode())
    return chunks
