"""Folders of pictures: the one place that finds the image files below them."""

import contextlib
import logging
import mimetypes
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from lit_ghibli.data.heif import HEIC_EXTENSIONS, NO_HEIC
from lit_ghibli.data.image_files import (
    EXTENSIONS,
    FolderError,
    ImageFileError,
    bullets,
    digest_of,
    size_of,
)

_CLUTTER = ("__macosx", "thumbs.db")  # what operating systems leave behind, in lower case
_RESULTS = "outputs"
_RAW = (".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2")
# Of kinds that not every system's list of types has.
_PICTURES = (*HEIC_EXTENSIONS, *_RAW, ".psd", ".xcf", ".jxl", ".jp2")
_logger = logging.getLogger(__name__)


def list_images(folder: str | os.PathLike) -> list[Path]:
    """List the image files of a folder and its subfolders, in natural order of their relative paths.

    Files are chosen by extension (`EXTENSIONS`, in any case). Hidden files and folders and what
    operating systems leave behind are passed over, and so are the results in ``outputs`` of the working folder where
    they lie below; symbolic links are followed. That there are pictures of other kinds, or videos, is logged.

    Raises:
        FolderError: the folder is missing, is no folder, holds no image, or cannot be listed with all below it.
    """
    folder = Path(folder)
    if not os.path.exists(folder):
        raise FolderError(f"image folder {folder} does not exist (absolute path: {folder.absolute()})")
    if not folder.is_dir():
        raise FolderError(f"image folder {folder} is a file, not a folder; name the folder that holds it")
    files = list(_walk(folder))
    images = [file for file in files if file.suffix.lower() in EXTENSIONS]
    if not images:
        others = Counter(file.suffix.lower() or "extensionless" for file in files)
        found = ", ".join(f"{count} {kind} file{'s'[: count > 1]}" for kind, count in others.most_common(5))
        raise FolderError(
            f"image folder {folder} holds no images: found {found or 'no files at all'}; {_what_is_read(others)}"
        )
    if unread := _unread(files):
        _log_unread(folder, tuple(unread.most_common()))
    return sorted(images, key=lambda file: _natural_key(file.relative_to(folder)))


def is_below(path: Path, folder: Path) -> bool:
    """Whether a path, links followed, leads into a folder, which it is not itself; links may lead in circles."""
    return Path(os.path.realpath(folder)) in Path(os.path.realpath(path)).parents


def is_read(place: Path, folder: Path) -> bool:
    """Whether pictures in a place are those of a folder, by what `list_images` passes over."""
    place, folder, results = (path.resolve() for path in (place, folder, Path(_RESULTS)))
    return place.is_relative_to(folder) and (folder.is_relative_to(results) or not place.is_relative_to(results))


def count_unread(folder: str | os.PathLike) -> Counter[str]:
    """How many pictures and videos `list_images` passes over for their extension, by extension."""
    return _unread(_walk(Path(folder)))


def _unread(files: Iterable[Path]) -> Counter[str]:
    """Files that somebody may have meant as pictures, unlike the notes and lists that lie beside pictures."""
    suffixes = (file.suffix.lower() for file in files)
    return Counter(suffix for suffix in suffixes if suffix not in EXTENSIONS and _may_be_picture(suffix))


@cache
def _may_be_picture(suffix: str) -> bool:
    kind = mimetypes.guess_type(f"_{suffix}")[0] or ""
    return suffix in _PICTURES or kind.startswith(("image/", "video/"))


def refuse_kind(path: Path) -> None:
    """Refuse a file that is given by name and has no extension of `EXTENSIONS`.

    Raises:
        FolderError: Saying which ones are read.
    """
    if path.suffix.lower() not in EXTENSIONS:
        raise FolderError(f"{path}: not an image; {_what_is_read([path.suffix.lower()])}")


@cache  # a command lists a folder several times, and says this once
def _log_unread(folder: Path, unread: tuple[tuple[str, int], ...]) -> None:
    counts = ", ".join(f"{count} {kind}" for kind, count in unread)
    number = sum(count for _, count in unread)
    _logger.warning("%s: %d passed over: %s; %s", folder, number, counts, _what_is_read(dict(unread)))


def _what_is_read(suffixes: Iterable[str]) -> str:
    heic = f"; {NO_HEIC}" if set(HEIC_EXTENSIONS) & set(suffixes) - set(EXTENSIONS) else ""
    return f"files that are read end in {', '.join(EXTENSIONS)}{heic}"


def check_disjoint(train: Sequence[Path], test: Sequence[Path]) -> None:
    """Refuse a test set that shares pictures with the training set: files of the same content.

    Raises:
        FolderError: listing the pictures that are in both.
    """

    def by_size(paths: Sequence[Path]) -> dict[int, list[Path]]:
        found: dict[int, list[Path]] = {}
        for path in paths:
            with contextlib.suppress(ImageFileError):  # a bad file, which is complained about when it is decoded
                found.setdefault(size_of(path), []).append(path)
        return found

    def digests(paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
        for path in paths:
            with contextlib.suppress(ImageFileError):
                yield digest_of(path), path

    train_sizes, test_sizes = by_size(train), by_size(test)
    same = []
    for size in train_sizes.keys() & test_sizes.keys():  # only files of equal size are worth reading
        by_digest: dict[str, list[Path]] = {}
        for digest, path in digests(train_sizes[size]):
            by_digest.setdefault(digest, []).append(path)
        same += [
            f"{path} is the training image {twin}"
            for digest, path in digests(test_sizes[size])
            for twin in by_digest.get(digest, [])
        ]
    if same:
        raise FolderError(
            f"test images were seen in training ({len(same)} of {len(test)}), which makes every score "
            f"too good; remove them from one of the two:",
            *bullets(sorted(same), at_most=len(same)),
        )


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, links followed, each real folder visited once."""

    def refuse(error: OSError) -> None:
        raise FolderError(f"folder {error.filename} cannot be listed ({error.strerror}): mend that, or move it away")

    visited = {os.path.realpath(folder), os.path.realpath(_RESULTS)}  # results are no data, where the folder is `.`
    for root, subfolders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = {name: os.path.realpath(os.path.join(root, name)) for name in sorted(subfolders)}
        subfolders[:] = [name for name in real if _wanted(name) and real[name] not in visited]
        visited.update(real[name] for name in subfolders)
        yield from (Path(root, name) for name in names if _wanted(name))


def _wanted(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _CLUTTER


def _natural_key(path: Path) -> tuple:
    """Order ``2.png`` before ``10.png``; the plain path breaks ties such as ``a.png`` and ``A.png``."""
    parts = [
        [int(piece) if piece.isdecimal() else piece.casefold() for piece in re.split(r"(\d+)", part)]
        for part in path.parts
    ]
    return parts, path.as_posix()
