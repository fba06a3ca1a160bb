"""What pictures a training has, in few words: checksums by which a changed set is noticed."""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lit_ghibli.data.file_checksums import checksum, checksums
from lit_ghibli.data.image_folders import list_images
from lit_ghibli.data.sources import Folders, SceneSource
from lit_ghibli.files import default_cache_dir
from lit_ghibli.scenes.scene import render_pair

_FOLDERS = ("train", "test", "pair")  # first words of the fields that name folders
_STORAGE = ("cache", "cache_dir")  # where pictures are kept says nothing of what they are


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
    return {"images": len(paths), "sha256": combine((path.name, checksum(path)) for path in paths)}


def combine(named: Iterable[tuple[str, str]]) -> str:
    """One checksum of many files, from the name and the checksum of each."""
    return hashlib.sha256(os.fsencode("".join(f"{found}  {name}\n" for name, found in named))).hexdigest()


def _of_folder(folder: Path, cache_dir: Path) -> dict[str, Any]:
    paths = list_images(folder)
    names = [path.relative_to(folder).as_posix() for path in paths]
    return {
        "images": len(paths),
        "sha256": combine(sorted(zip(names, checksums(folder, paths, cache_dir), strict=True))),
    }
