"""Where training and held-out pictures come from: folders of a user's, or rendered scenes."""

import hashlib
import logging
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from lit_ghibli.data.cache import PackedImages, cached_folder, cached_renders
from lit_ghibli.data.image_files import FolderError, map_in_threads, picture_size
from lit_ghibli.data.image_folders import check_disjoint, list_images
from lit_ghibli.data.transforms import AtLeast, Resize, Step
from lit_ghibli.errors import UserError
from lit_ghibli.scenes.scene import render_pair

log = logging.getLogger(__name__)

# Scenes from this one on are held out, whatever is trained on: runs of all layouts can be compared on the same ones.
FIRST_HELD_OUT = 1_000_000
_SMALLEST_EVALUATED = 16  # pixels: what the metrics need
_SHOWN = 8  # training pictures that stand for held-out ones where there are none


@dataclass
class Splits:
    """Pictures for training and held out, all ``uint8``.

    Inputs are what is translated, photographs for most methods; targets are of the domain that they are
    translated to. Of paired sources, training pictures of equal index belong together.

    Attributes:
        train_input: Inputs to train on; None where only held-out pictures were asked for.
        train_target: Targets to train on; None likewise.
        test_input: Held-out inputs.
        test_target: Held-out targets.
        stands_in: Training pictures of unpaired domains stand for held-out ones, so that equal names mean nothing.
        pair_input: Inputs of pairs to train on besides, where a source has such.
        pair_target: Their targets, in the same order.
        pair_style: The style pictures of these targets, in the same order, where a source has such.
    """

    train_input: PackedImages | None
    train_target: PackedImages | None
    test_input: PackedImages
    test_target: PackedImages
    stands_in: bool = False
    pair_input: PackedImages | None = None
    pair_target: PackedImages | None = None
    pair_style: PackedImages | None = None

    def partners(self) -> list[int] | None:
        """Index in ``test_target`` of each held-out input's true partner: named alike but for the extension.

        None where any input has none.
        """
        if self.stands_in:
            return None
        partners = partner_indices(self.test_input.names, self.test_target.names)
        return None if None in partners else partners


def partner_indices(names: Sequence[str], others: Sequence[str]) -> list[int | None]:
    """Index among ``others`` of each name's partner: named the same, or else but for the extension."""
    by_stem = {stem(name): number for number, name in enumerate(others)}
    by_name = {name: number for number, name in enumerate(others)}
    return [by_name.get(name, by_stem.get(stem(name))) for name in names]


def stem(name: str | Path) -> Path:
    """A relative path without its extension, by which partners know each other."""
    return Path(name).with_suffix("")


def near_twins(folder: Path, alone: Iterable[Path], other: Path, candidates: Iterable[Path]) -> list[str]:
    """What to say of each file without a partner: which of the candidates has its name to the eye, if one has.

    Two file systems may take one name for two: they differ in capitals, or write an accent into its letter or behind.
    """

    def seen(path: Path, root: Path) -> str:
        return unicodedata.normalize("NFC", stem(path.relative_to(root)).as_posix()).casefold()

    twins = {seen(path, other): path.name for path in candidates}
    found = [twins.get(seen(path, folder)) for path in alone]
    return [f" (but {twin}: with other capitals, or accents of another form)" if twin else "" for twin in found]


def by_stem(folder: Path, paths: Iterable[Path]) -> dict[Path, Path]:
    """Files of a folder by their relative paths without extensions, in the order given.

    Raises:
        FolderError: Two files differ in their extension only.
    """
    named: dict[Path, Path] = {}
    for path in paths:
        twin = named.setdefault(stem(path.relative_to(folder)), path)
        if twin is not path:
            raise FolderError(f"{twin} and {path} are named alike but for the extension: remove one of them")
    return named


class Source(Protocol):
    """What a data module asks of a source."""

    def check(self, crop_size: int) -> None:
        """Refuse settings that cannot work, before anything is read.

        Raises:
            UserError: Saying which value to change.
        """

    def load(self, training: bool = True) -> Splits:
        """Decode or render everything once, or find it in the cache.

        Args:
            training: Open the training pictures too; without them, folders that hold held-out ones are enough.

        Raises:
            FolderError: A folder is missing, empty or has bad pictures, or a picture is in training and test.
        """


@dataclass
class Files:
    """Picture files and the folder that their names are relative to."""

    folder: Path
    paths: list[Path]


@dataclass
class Domain:
    """Files of one domain, None of a split that is not there or not asked for.

    ``pair`` are halves of pairs to train on besides; ``before`` and ``after`` are what is done to each picture
    before and after it is resized.
    """

    train: Files | None
    test: Files | None
    pair: Files | None = None
    before: Sequence[Step] = ()
    after: Sequence[Step] = ()


def try_all(attempts: Iterable[Callable[[], Any]]) -> list[Any]:
    """What each attempt returns.

    Raises:
        FolderError: With the messages of all that failed.
    """
    results, errors = [], []
    for attempt in attempts:
        try:
            results.append(attempt())
        except FolderError as error:
            errors += error.lines
    if errors:
        raise FolderError(*dict.fromkeys(errors))
    return results


@dataclass(kw_only=True)
class Folders:
    """How pictures in the folders below a root are found, read and held out.

    Attributes:
        root: Folder that holds the others.
        load_size: Pixels that training pictures are resized to before the crop.
        eval_size: Pixels that held-out pictures are resized to.
        resize: ``squash`` makes squares; ``short_side`` and ``area`` keep the aspect.
        pre_size: Pixels that training pictures are resized to even before that, which costs fine detail; None for not.
        min_side: Pictures with a side shorter than this are bad files.
        on_small: ``error`` counts those as bad files; ``enlarge`` takes them, and warns of how many there are.
        on_bad_file: ``error`` stops and lists all of them; ``skip`` goes on without them.
        cache: Where decoded pictures are kept: ``disk`` or ``ram``.
        cache_dir: Folder of the cache; None for the user's cache folder.
    """

    root: str | Path
    load_size: int
    eval_size: int
    resize: Literal["squash", "short_side", "area"]
    min_side: int
    on_bad_file: Literal["error", "skip"]
    cache: Literal["disk", "ram"]
    cache_dir: str | Path | None
    pre_size: int | None = None
    on_small: Literal["error", "enlarge"] = "error"

    TRAINED_ON: ClassVar[tuple[str, ...]]  # fields that name the folders to train on

    @property
    def reads(self) -> list[Path]:
        """The folders that pictures are read from, with all below them."""
        root = Path(self.root).expanduser()
        names = [field.name for field in fields(self) if re.match(r"(train|test|pair)(_|$)", field.name)]
        return [root / getattr(self, name) for name in names] or [root]

    @property
    def smallest(self) -> int:
        """Pixels that a picture's shorter side must have for it not to be a bad file."""
        return self.min_side if self.on_small == "error" else 1

    def check(self, crop_size: int) -> None:
        """Refuse a missing root, and pictures smaller than their crops."""
        if self.root is None:
            raise UserError(
                "data.root is not set: give the folder that holds "
                f"{' and '.join(f'{getattr(self, field)}/' for field in self.TRAINED_ON)}, or use rendered scenes"
            )
        if self.load_size < crop_size:
            raise UserError(f"data.load_size = {self.load_size} is smaller than data.crop_size = {crop_size}")
        if self.eval_size < _SMALLEST_EVALUATED:
            raise UserError(f"data.eval_size must be at least {_SMALLEST_EVALUATED} pixels; got {self.eval_size}")
        choices_of = {"on_bad_file": ("error", "skip"), "on_small": ("error", "enlarge"), "cache": ("disk", "ram")}
        for field, choices in choices_of.items():
            if getattr(self, field) not in choices:
                raise UserError(f"data.{field} must be {' or '.join(choices)}; got {getattr(self, field)!r}")

    def _find(self, train: str, test: str, training: bool, pair: str | None = None) -> Domain:
        """Files of a folder to train on, of a held-out one, which the user need not have, and of halves of pairs."""
        root = Path(self.root).expanduser()
        held_out = Files(root / test, list_images(root / test)) if (root / test).is_dir() else None
        if not training and held_out:
            return Domain(None, held_out)
        names = [train, pair] if training and pair else [train]
        found = try_all(partial(self._trained_on, root, name, held_out) for name in names)
        if not held_out:
            log.warning("no folder %s in %s: pictures and metrics use training images instead", test, root)
        return Domain(found[0], held_out, *found[1:])

    def _trained_on(self, root: Path, name: str, held_out: Files | None) -> Files:
        """Files of a folder to train on, none of which is held out."""
        folder = root / name
        if not os.path.exists(folder):
            key = next(field for field in self.TRAINED_ON if getattr(self, field) == name)
            there = sorted(path.name for path in root.iterdir() if path.is_dir()) if os.path.isdir(root) else []
            raise FolderError(
                f"image folder {folder} does not exist: data.{key}={name}, but data.root={root} has "
                f"{', '.join(there) or 'no folders'}"
            )
        found = Files(folder, list_images(folder))
        if held_out:
            check_disjoint(found.paths, held_out.paths)
        return found

    def _open(self, inputs: Domain, targets: Domain, training: bool) -> Splits:
        """Decode both domains, the first training pictures for held-out ones that are not there.

        The errors of all folders come together.
        """
        stands_in = not (inputs.test and targets.test)
        held_out = [
            domain.test or Files(domain.train.folder, domain.train.paths[:_SHOWN]) for domain in (inputs, targets)
        ]
        requests = [(domain.train if training else None, domain, True) for domain in (inputs, targets)]
        requests += [(files, domain, False) for files, domain in zip(held_out, (inputs, targets), strict=True)]
        requests += [(domain.pair, domain, True) for domain in (inputs, targets)]
        *opened, pair_input, pair_target = try_all(partial(self._decode, *request) for request in requests)
        return Splits(*opened, stands_in, pair_input, pair_target)

    def _decode(self, files: Files | None, domain: Domain, cropped: bool) -> PackedImages | None:
        size = self.load_size if cropped else self.eval_size
        # Of equal area, long pictures are low: those to train on must still hold a crop.
        fitting = [AtLeast(self.min_side)] if self.resize == "area" and cropped else []
        if self.on_small == "enlarge" and files:
            warn_of_small(files, self.min_side)
        before = [Resize(self.pre_size, self.resize)] if self.pre_size and cropped else []
        return files and cached_folder(
            files.folder,
            files.paths,
            steps=[*domain.before, AtLeast(self.smallest), *before, Resize(size, self.resize), *fitting, *domain.after],
            on_bad_file=self.on_bad_file,
            storage=self.cache,
            cache_dir=self.cache_dir,
        )


def warn_of_small(files: Files, side: int) -> None:
    """Say how many pictures of a folder have a side shorter than this; only the beginnings of their files are read."""
    small = sum(min(size) < side for size in map_in_threads(picture_size, files.paths) if size)
    if small:
        log.warning(
            "%d of %d pictures in %s are smaller than data.min_side = %d pixels, and are enlarged",
            *(small, len(files.paths), files.folder, side),
        )


@dataclass(kw_only=True)
class FolderSource(Folders):
    """Two folders of pictures to train on, and two that are held out if the user has them.

    Without held-out folders the first training pictures are shown and measured instead, which a warning says.

    Attributes:
        train_photo: Subfolder of photographs.
        train_anime: Subfolder of pictures in the target style.
        test_photo: Subfolder of held-out photographs.
        test_anime: Subfolder of held-out pictures; those named like a photograph are its true partner.
    """

    train_photo: str
    train_anime: str
    test_photo: str
    test_anime: str

    TRAINED_ON = ("train_photo", "train_anime")

    def load(self, training: bool = True) -> Splits:
        """Decode everything once, or find it in the cache; see :class:`Source`."""
        folders = ((self.train_photo, self.test_photo), (self.train_anime, self.test_anime))
        return self._open(*try_all(partial(self._find, *names, training) for names in folders), training)


@dataclass(kw_only=True)
class SceneSource:
    """Rendered landscapes: every photograph has a true partner in the painted style.

    Attributes:
        scene_seed: Seed of the world that the scenes are of.
        count: Training pictures per domain.
        test_count: Held-out pairs.
        size: Side in pixels, 32 to 512.
        cache: ``disk`` or ``ram``.
        cache_dir: Folder of the cache; None for the user's cache folder.
        paired: Train on pairs; otherwise training photographs and training pictures are of different scenes.
    """

    scene_seed: int
    count: int
    test_count: int
    size: int
    cache: Literal["disk", "ram"]
    cache_dir: str | Path | None
    paired: bool

    def check(self, crop_size: int) -> None:
        """Refuse scenes smaller than their crops."""
        if self.size < crop_size:
            raise UserError(f"data.size = {self.size} is smaller than data.crop_size = {crop_size}")

    def load(self, training: bool = True) -> Splits:
        """Render everything once, or find it in the cache; ``training`` as for folders."""
        return Splits(
            self._render("photo", 0, self.count) if training else None,
            self._render("ghibli", 0 if self.paired else self.count, self.count) if training else None,
            self._render("photo", FIRST_HELD_OUT, self.test_count),
            self._render("ghibli", FIRST_HELD_OUT, self.test_count),
        )

    def _render(self, domain: Literal["photo", "ghibli"], start: int, count: int) -> PackedImages:
        # One picture of the renderer as it is now, so that a changed renderer does not find its old pictures.
        renderer = hashlib.sha256(_render_scene(domain, 0, 32, 0, 0).tobytes()).hexdigest()
        return cached_renders(
            f"{renderer} {domain} seed={self.scene_seed} from={start} size={self.size}",
            count,
            partial(_render_scene, domain, self.scene_seed, self.size, start),
            storage=self.cache,
            cache_dir=self.cache_dir,
        )


def _render_scene(domain: str, seed: int, size: int, start: int, index: int) -> np.ndarray:
    photo, ghibli = render_pair(seed, start + index, size)
    return photo if domain == "photo" else ghibli
