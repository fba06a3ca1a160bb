"""Photographs and what several methods made of them, matched by their names."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from lit_ghibli.data.image_files import FolderError
from lit_ghibli.data.image_folders import list_images
from lit_ghibli.data.sources import by_stem

Matched = tuple[Path, dict[str, Path]]  # a photograph, and its picture by method

Value = TypeVar("Value")


def match(inputs: Path, methods: Mapping[str, Path]) -> dict[str, Matched]:
    """The photographs of which every method has a picture: file, and file by method, by name.

    A picture belongs to the photograph whose path within its folder it repeats, with the same extension, another, or
    one more, as `lit-ghibli evaluate` writes them.

    Raises:
        FolderError: Two pictures of a method share such a path; nothing matches; a folder is missing or holds no image.
    """
    photos = list_images(inputs)
    by_method = {method: by_stem(folder, list_images(folder)) for method, folder in methods.items()}
    matched = {}
    for photo in photos:
        name = photo.relative_to(inputs)
        pictures = {method: files.get(name) or files.get(name.with_suffix("")) for method, files in by_method.items()}
        if all(pictures.values()):
            matched[name.as_posix()] = photo, pictures
    if not matched:
        counts = ", ".join(f"{method} {len(files)}" for method, files in by_method.items())
        raise FolderError(
            f"none of the {len(photos)} photographs in {inputs} has a picture of its name in every method's folder "
            f"(pictures: {counts}); they are matched by name, such as a/b.jpg with a/b.png"
        )
    return matched


def choose_evenly(matched: Mapping[str, Value], count: int, seed: int) -> dict[str, Value]:
    """One at random out of each of ``count`` equal stretches, in order.

    Raises:
        FolderError: There are fewer.
    """
    if len(matched) < count:
        raise FolderError(f"sets={count}, but only {len(matched)} photographs have a picture of every method")
    names = list(matched)
    edges = np.linspace(0, len(names), count + 1).astype(int)
    picks = np.random.default_rng(seed).integers(edges[:-1], edges[1:])
    return {names[pick]: matched[names[pick]] for pick in picks}
