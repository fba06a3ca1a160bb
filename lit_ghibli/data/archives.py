"""Unpack a ``.tar.gz`` or ``.zip`` from a stranger: plain files and folders only, within bounds, or an error."""

import errno
import gzip
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import IO

_CHUNK = 1 << 16  # bytes
_LARGEST_HEADER = 1 << 20  # bytes of one member's in a tar file, with its extensions
_LARGEST_DIRECTORY = 1 << 25  # bytes of all members' in a ZIP file
_EXTENSIONS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENSIONS += (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_MOST_MEMBERS = 1_000_000
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile unpacks others without a bound on its memory
_ENCRYPTED = 1  # of a ZIP member's flags
_OF_NAMES = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
_DAMAGE = (gzip.BadGzipFile, zlib.error, EOFError, tarfile.TarError, zipfile.BadZipFile)
_DAMAGE += (ValueError, NotImplementedError)  # headers without sense, or of things that nobody uses


class ArchiveError(Exception):
    """An archive is damaged, too large or unsafe."""


def unpack(archive: Path, folder: Path, max_bytes: int) -> None:
    """Write the files of a ``.tar.gz`` or ``.zip`` from a stranger below ``folder``; its first bytes say which it is.

    Only plain files and folders are made, with the permissions that new files have here, so nothing can lead
    outside: tarfile's own filter, which allows links, is not in every Python 3.10.

    Raises:
        ArchiveError: It is damaged, larger than ``max_bytes`` when unpacked, empty, or has a member that is no plain
            file or folder or would lie outside.
    """
    with archive.open("rb") as stream:
        unpack_stream = _unpack_zip if stream.read(2) == b"PK" else _unpack_tar
        stream.seek(0)
        try:
            files = unpack_stream(stream, folder, max_bytes)
        except _DAMAGE as error:
            raise ArchiveError(str(error)) from error
    if not files:
        raise ArchiveError("no files in it")


def limit(max_bytes: int) -> str:
    """The bound on an archive's size in the words of messages."""
    return f"the {megabytes(max_bytes)} that max_megabytes allows"


def megabytes(count: int) -> str:
    """A number of bytes to be read by people."""
    return f"{count / 1e6:.1f} MB"


def _unpack_tar(packed: IO[bytes], folder: Path, max_bytes: int) -> int:
    """Unpack all members, reading to the last byte, and return how many are files."""
    files = total = 0
    with gzip.open(packed) as stream:
        limited = _Limited(stream, max_bytes)
        with tarfile.open(fileobj=limited, mode="r|", tarinfo=_StrictMember) as members:
            for member in members:
                plain = member.isreg() and not member.issparse()  # a sparse file may be of any size
                content = (lambda member=member: members.extractfile(member)) if plain else None
                files += _write_member(member.name, member.isdir(), content, folder)
                members.members.clear()  # which would be kept, however many they are
                total += 1
                _check_number(total)
        while limited.read(_CHUNK):  # gzip compares its checksum only at the very end
            pass
    return files


def _unpack_zip(packed: IO[bytes], folder: Path, max_bytes: int) -> int:
    """Unpack all members, whose checksums zipfile compares, and return how many are files."""
    with zipfile.ZipFile(_BoundedReads(packed)) as archive:
        members = archive.infolist()
        _check_number(len(members))
        if sum(member.file_size for member in members) > max_bytes:  # zipfile gives no more than a member claims
            raise ArchiveError(f"more than {limit(max_bytes)} to unpack")
        files = 0
        for member in members:
            name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
            if member.flag_bits & _ENCRYPTED or member.compress_type not in _PACKINGS:
                raise ArchiveError(f"its member {_shortened(name)!r} is encrypted or packed in an uncommon way")
            plain = kind in (0, stat.S_IFREG)  # 0: packed where files have no kinds
            content = (lambda member=member: archive.open(member)) if plain else None
            files += _write_member(name, name.endswith("/") and kind in (0, stat.S_IFDIR), content, folder)
    return files


class _StrictMember(tarfile.TarInfo):
    """A member whose header must be sound and of some size, and that the end of the archive must follow at last.

    Tarfile takes a damaged header for the end, needs no end, and reads extensions into memory however large they are.
    """

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(archive)
        except tarfile.EmptyHeaderError as error:
            raise ArchiveError("cut short: the mark of its end is missing") from error
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:
            raise ArchiveError(str(error)) from error

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        made = super().frombuf(buf, encoding, errors)
        if made.type in _EXTENSIONS and made.size > _LARGEST_HEADER:
            raise ArchiveError(f"a header of {megabytes(made.size)}")
        return made


class _Limited:
    """A stream that raises before it has given more than so many bytes."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self._stream, self._most, self._given = stream, most, 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._given += len(data)
        if self._given > self._most:
            raise ArchiveError(f"more than {limit(self._most)} to unpack")
        return data


class _BoundedReads:
    """A file in which zipfile cannot read a directory into memory however large it is, nor seek beyond the ends."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tell, self.seekable = file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > _LARGEST_DIRECTORY:
            raise ArchiveError(f"a directory of {megabytes(size)}")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, OverflowError) as error:
            raise ArchiveError("cut short, or its directory leads outside of it") from error


def _check_number(members: int) -> None:
    if members > _MOST_MEMBERS:
        raise ArchiveError(f"more than {_MOST_MEMBERS:,} members")


def _write_member(name: str, is_folder: bool, content: Callable[[], IO[bytes]] | None, folder: Path) -> bool:
    """Write one member, a folder or what ``content`` opens, and return whether it is a file."""
    parsed = PureWindowsPath(name)  # whose rules refuse all that POSIX rules refuse, on any system
    if parsed.drive or parsed.root or ".." in parsed.parts or "\0" in name:
        raise ArchiveError(f"its member {name!r} would lie outside")
    path = folder / name
    if not is_folder and content is None:
        raise ArchiveError(f"its member {name!r} is neither a plain file nor a folder")
    try:
        if is_folder:
            path.mkdir(parents=True, exist_ok=True)
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        with content() as packed, path.open("xb") as file:  # what comes twice is not replaced
            shutil.copyfileobj(packed, file)
    except OSError as error:
        if error.errno not in _OF_NAMES:  # else it is the archive's fault, and not the disk's
            raise
        raise ArchiveError(
            f"its member {_shortened(name)!r} is in conflict with another, or cannot be called so here"
        ) from error
    return True


def _shortened(name: str) -> str:
    return name if len(name) <= 80 else f"{name[:80]}..."
