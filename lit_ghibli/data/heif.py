"""HEIC pictures, as telephones take them: read where pillow-heif is installed."""

from importlib.util import find_spec
from typing import IO

from PIL import Image, ImageFile

HEIC_EXTENSIONS = (".heic", ".heif", ".hif")
NO_HEIC = "HEIC pictures, as iPhones take them, are read with pip install 'lit-ghibli[heic]'"
_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")


def register_heif() -> bool:
    """Let Pillow read HEIC pictures, and return whether it can; what reads them is imported with the first one."""
    if find_spec("pillow_heif") is None:
        return False
    Image.register_open("HEIF", _open, is_heif)
    return True


def is_heif(head: bytes) -> bool:
    """Whether the first bytes are of a container of HEVC pictures. Source: ISO/IEC 23008-12, Annex B."""
    return head[4:8] == b"ftyp" and head[8:12] in _BRANDS


def _open(file: IO[bytes], name: str | bytes) -> ImageFile.ImageFile:
    from pillow_heif import HeifImageFile

    return HeifImageFile(file, name)
