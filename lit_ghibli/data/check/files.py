"""The files of a data set: which folders a training reads, what is in them, and what is to be known of each picture."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from lit_ghibli.data.image_files import ImageFileError, UnsuitablePicture, inspect_image, map_in_threads
from lit_ghibli.data.near_duplicates import hash_luminance, reduced_luminance
from lit_ghibli.data.painted_photos import PaintedPhotos
from lit_ghibli.data.pair_sources import PseudoPairFolders, SideBySideSource, TwoFolderSource
from lit_ghibli.data.sources import Folders, FolderSource
from lit_ghibli.data.transforms import AtLeast, Half

_COLOR_SIDE = 64  # pixels that pictures are reduced to, about, before their saturation is averaged
COLORS = ("red", "green", "blue", "saturation", "lightness")
COLOR_COLUMNS = (*COLORS, "red_std", "green_std", "blue_std")  # of `summarize`


@dataclass(frozen=True)
class Folder:
    """A folder of a data set.

    Attributes:
        path: Where it is.
        split: ``train``, or held out as ``test``.
        domain: ``input`` or ``target``, of what is translated; ``both`` where a picture serves as both.
        needed: Whether a training stops without it.
        halves: Sides of its pictures that are used as pictures of their own; none where they are used whole.
    """

    path: Path
    split: Literal["train", "test"]
    domain: Literal["input", "target", "both"]
    needed: bool
    halves: tuple[Half, ...] = ()


@dataclass(frozen=True)
class Pairing:
    """Two folders whose files belong together if they are named alike but for the extension.

    Attributes:
        inputs: Folder of inputs.
        targets: Folder of targets.
        needed: Whether a file without a partner is a mistake.
        size: Pixels that both are resized to.
    """

    inputs: Folder
    targets: Folder
    needed: bool
    size: int


@dataclass
class PictureFile:
    """What is known of one file; of one that cannot be decoded, only its problem.

    Attributes:
        folder: Where it was found.
        path: The file.
        problem: Why it cannot be used, a phrase that follows its name; empty where it can.
        size: Width and height in pixels, upright.
        format: As `Inspected.format`, like ``mode`` and ``digest``.
        hash: `perceptual_hash` of the whole picture.
        colors: Mean red, green, blue, saturation (of HSV) and lightness (luma), each in ``[0, 1]``.
        squares: Mean squares of red, green and blue.
        grids: `reduced_luminance` of each picture in it: two of a file with halves.
    """

    folder: Folder
    path: Path
    problem: str = ""
    size: tuple[int, int] | None = None
    format: str = ""
    mode: str = ""
    digest: str = ""
    hash: int | None = None
    colors: tuple[float, ...] = ()
    squares: tuple[float, ...] = ()
    grids: tuple[np.ndarray, ...] = ()


def layout(source: Folders) -> tuple[list[Folder], list[Pairing]]:
    """The folders that a source reads, and which of them hold partners."""
    root = Path(source.root).expanduser()

    def make(name: str, *facts: Any) -> Folder:
        return Folder(root / name, *facts)

    if isinstance(source, PaintedPhotos):
        return [make("", "train", "both", True)], []
    if not isinstance(source, FolderSource | TwoFolderSource):
        sided = isinstance(source, SideBySideSource)
        halves = tuple(Half(side, source.max_half_aspect) for side in ("left", "right")) if sided else ()
        return [make(source.train, "train", "both", True, halves), make(source.test, "test", "both", False, halves)], []
    unpaired = isinstance(source, FolderSource)
    words = ("photo", "anime") if unpaired else ("input", "target")
    train, test = (
        [
            make(getattr(source, f"{split}_{word}"), split, domain, split == "train")
            for word, domain in zip(words, ("input", "target"), strict=True)
        ]
        for split in ("train", "test")
    )
    pairings = [Pairing(*test, needed=not unpaired, size=source.eval_size)]
    if not unpaired:
        pairings.append(Pairing(*train, needed=True, size=source.load_size))
    if not isinstance(source, PseudoPairFolders):
        return [*train, *test], pairings
    pair = [make(source.pair_input, "train", "input", True), make(source.pair_target, "train", "target", True)]
    return [*train, *pair, *test], [*pairings, Pairing(*pair, needed=True, size=source.load_size)]


def inspect_files(files: Sequence[PictureFile], min_side: int, *, keep_grids: bool) -> Iterator[PictureFile]:
    """Open every file once, in threads, and yield it with all that is to be known of it, in order.

    Args:
        files: Of `find_files`.
        min_side: Pixels; a picture with a shorter side is a bad one.
        keep_grids: Keep a kilobyte of each picture to compare partners by.
    """
    return map_in_threads(partial(_inspect, min_side=min_side, keep_grids=keep_grids), files)


def summarize(folder: Folder, files: Sequence[PictureFile]) -> dict[str, Any]:
    """One row about a folder: counts, sizes in pixels, aspects (width : height), formats, modes, colors in [0, 1]."""
    mine = [file for file in files if file.folder == folder]
    decoded = [file for file in mine if file.size]
    row = {"folder": folder.path.name, "split": folder.split, "domain": folder.domain}
    row |= {"files": len(mine), "bad": sum(bool(file.problem) for file in mine)}
    if not decoded:
        return row
    by_area = sorted((file.size for file in decoded), key=lambda size: size[0] * size[1])
    for title, place in (("smallest", 0), ("median", len(by_area) // 2), ("largest", -1)):
        row[title] = "{}x{}".format(*by_area[place])
    aspects = np.array([width / height for width, height in by_area])
    row["aspect"] = " / ".join(f"{value:.2f}" for value in (aspects.min(), np.median(aspects), aspects.max()))
    row["formats"] = _counted(file.format for file in decoded)
    row["modes"] = _counted(file.mode for file in decoded)
    means = np.mean([file.colors for file in decoded], axis=0)
    deviations = np.sqrt(np.maximum(np.mean([file.squares for file in decoded], axis=0) - means[:3] ** 2, 0.0))
    row |= {name: float(value) for name, value in zip(COLORS, means, strict=True)}
    return row | {name: float(value) for name, value in zip(COLOR_COLUMNS[5:], deviations, strict=True)}


def _inspect(file: PictureFile, min_side: int, keep_grids: bool) -> PictureFile:
    try:
        image, kind, mode, digest = inspect_image(file.path)
    except ImageFileError as error:
        return PictureFile(file.folder, file.path, error.reason)
    problem, pieces = "", [image]
    try:
        pieces = [half(image) for half in file.folder.halves] or [image]
        for piece in pieces:
            AtLeast(min_side)(piece)
    except UnsuitablePicture as error:
        problem = str(error)
    whole = reduced_luminance(image)
    grids = ((whole,) if len(pieces) == 1 else tuple(map(reduced_luminance, pieces))) if keep_grids else ()
    facts = (file.folder, file.path, problem, image.size, kind, mode, digest, hash_luminance(whole))
    return PictureFile(*facts, *_colors(image, whole), grids)


def _colors(image: Image.Image, luminance: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`PictureFile.colors` and `PictureFile.squares`."""
    histogram = np.array(image.histogram(), dtype=np.float64).reshape(3, 256) / (image.width * image.height)
    levels = np.arange(256) / 255.0
    reduced = image.reduce(max(1, min(image.size) // _COLOR_SIDE))
    saturation = np.asarray(reduced.convert("HSV"))[..., 1].mean() / 255.0
    means = (*map(float, histogram @ levels), float(saturation), float(luminance.mean() / 255.0))
    return means, tuple(map(float, histogram @ levels**2))


def _counted(words: Iterator[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).most_common())
