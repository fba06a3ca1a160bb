"""What pictures a training has, in few words: checksums by which a changed set is noticed."""

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lit_ghibli.checksums import sha256_of
from lit_ghibli.data.cache import default_cache_dir
from lit_ghibli.data.image_files import list_images
from lit_ghibli.data.sources import Folders, SceneSource
from lit_ghibli.files import write_atomically
from lit_ghibli.scenes.scene import render_pair

_FOLDERS = ("train", "test", "pair")  # first words of the fields that name folders
_STORAGE = ("cache", "cache_dir")  # where pictures are kept says nothing of what they are
_WORTH_A_WORD = 1 << 30  # bytes to read
_logger = logging.getLogger(__name__)

State = list[int]  # of a file: its size in bytes, and when its content and its inode were changed


def fingerprint(source: Any) -> dict[str, Any]:
    """What a source trains and validates on.

    Args:
        source: As a data module has it.

    Returns:
        Of folders, by the field that names each of them, how many ``images`` it holds and the ``sha256`` of their
        relative names and contents; of scenes, ``scenes`` with all that decides them, the checksum of the
        ``renderer``'s first pair included; of other sources nothing.
    """
    if isinstance(source, SceneSource):
        settings = {name: value for name, value in vars(source).items() if name not in _STORAGE}
        renderer = hashlib.sha256(b"".join(picture.tobytes() for picture in render_pair(0, 0, 32))).hexdigest()
        return {"scenes": {**settings, "renderer": renderer}}
    if not isinstance(source, Folders):
        return {}
    root = Path(source.root).expanduser()
    names = [field.name for field in dataclasses.fields(source) if field.name.split("_")[0] in _FOLDERS]
    folders = {name: root / getattr(source, name) for name in names}
    cache_dir = Path(source.cache_dir).expanduser() if source.cache_dir else default_cache_dir()
    return {name: _of_folder(folder, cache_dir) for name, folder in folders.items() if folder.is_dir()}


def fingerprint_files(paths: Sequence[Path]) -> dict[str, Any]:
    """How many ``images`` these are, and the ``sha256`` of their names and contents, in the order given."""
    return {"images": len(paths), "sha256": combine((path.name, _checksum(path)) for path in paths)}


def combine(checksums: Iterable[tuple[str, str]]) -> str:
    """One checksum of many files, from the name and the checksum of each."""
    return hashlib.sha256("".join(f"{checksum}  {name}\n" for name, checksum in checksums).encode()).hexdigest()


def _of_folder(folder: Path, cache_dir: Path) -> dict[str, Any]:
    """The fingerprint of a folder, of which only those files are read that have changed since the last time."""
    names = {path.relative_to(folder).as_posix(): path for path in list_images(folder)}
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()
    memory = cache_dir / "checksums" / f"{digest[:32]}.json"
    try:
        known: dict[str, tuple[State, str]] = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    states = {name: _state(path) for name, path in names.items()}
    new = [name for name, state in states.items() if known.get(name, [None])[0] != state]
    if sum(states[name][0] for name in new) > _WORTH_A_WORD:
        _logger.info("reading %d files of %s, once, for the fingerprint of the data", len(new), folder)
    now = {name: known[name] for name in names.keys() - set(new)}
    now |= {name: [states[name], _checksum(names[name])] for name in new}
    if now != known:
        try:
            with write_atomically(memory, encoding="utf-8") as file:
                file.write(json.dumps(now))
        except OSError as error:  # which only costs time
            _logger.info("checksums of pictures are not kept: cannot write %s (%s)", memory, error)
    return {"images": len(names), "sha256": combine((name, now[name][1]) for name in sorted(now))}


def _state(path: Path) -> State:
    """What changes with a file's content: unlike the time of its content, that of its inode cannot be set back."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _checksum(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:  # a bad file, which the source has skipped
        return "unreadable"
