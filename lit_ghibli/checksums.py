"""The checksum by which files are told apart."""

import hashlib
from pathlib import Path

_CHUNK = 1 << 20  # bytes


def sha256_of(path: Path) -> str:
    """Return the SHA-256 checksum of a file, as lower-case hexadecimal digits."""
    checksum = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            checksum.update(chunk)
    return checksum.hexdigest()
