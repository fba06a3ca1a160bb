"""Checksums of pictures' files, which are read again only where they may have changed."""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from lit_ghibli.data.image_files import ImageFileError, digest_of, map_in_threads, size_of
from lit_ghibli.documents import DocumentError, read_json
from lit_ghibli.files import write_text

_WORTH_A_WORD = 1 << 30  # bytes to read
_logger = logging.getLogger(__name__)

State = list[int]  # of a file: its size in bytes, and when its content and its inode were changed


def checksum(path: Path) -> str:
    """SHA-256 of a picture's file, or ``unreadable`` for a bad one."""
    try:
        return digest_of(path)
    except ImageFileError:
        return "unreadable"


def checksums(folder: Path, paths: Sequence[Path], cache_dir: Path) -> list[str]:
    """`checksum` of each file, of which only those are read that have changed since the last time.

    Args:
        folder: Where all of them are.
        paths: The files.
        cache_dir: Where it is kept what is known of the folder.
    """
    names = [path.relative_to(folder).as_posix() for path in paths]
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()
    memory = cache_dir / "checksums" / f"{digest[:32]}.json"
    try:
        known = read_json(memory, dict[str, tuple[State, str]])
    except DocumentError:
        known = {}
    states = dict(zip(names, map(_state, paths), strict=True))
    new = {name: path for name, path in zip(names, paths, strict=True) if known.get(name, (None,))[0] != states[name]}
    if sum(states[name][0] for name in new) > _WORTH_A_WORD:
        _logger.info("reading %d files of %s, once, to know them again", len(new), folder)
    known |= {
        name: (states[name], found) for name, found in zip(new, map_in_threads(checksum, new.values()), strict=True)
    }
    if new:
        try:
            write_text(memory, json.dumps(known))
        except OSError as error:  # which only costs time
            _logger.info("checksums of pictures are not kept: cannot write %s (%s)", memory, error)
    return [known[name][1] for name in names]


def _state(path: Path) -> State:
    """What changes with a file's content: unlike the time of its content, that of its inode cannot be set back."""
    try:
        size = size_of(path)
    except ImageFileError:
        return [0, 0, 0]
    status = path.stat()
    return [size, status.st_mtime_ns, status.st_ctime_ns]
