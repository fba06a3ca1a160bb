"""The checksum by which files are told apart, and those of the parts of an archive."""

import hashlib
import zipfile
from pathlib import Path

_CHUNK = 1 << 20  # bytes


def sha256_of(path: Path) -> str:
    """Return the SHA-256 checksum of a file, as lower-case hexadecimal digits."""
    checksum = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            checksum.update(chunk)
    return checksum.hexdigest()


def verify_archive(path: Path) -> None:
    """Compare every part of a file of torch's, which is a zip archive, with its checksum, which torch does not read.

    Raises:
        ValueError: A part is another than was written, or is compressed, to who knows what size, as torch does not.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            if any(part.compress_type for part in parts) or sum(part.file_size for part in parts) > path.stat().st_size:
                raise ValueError("compressed, to who knows what size")
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(str(error)) from error
    if broken is not None:
        raise ValueError(f"the checksum of {broken!r} is another")
