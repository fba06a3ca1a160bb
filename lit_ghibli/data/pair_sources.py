"""Where pairs come from: one picture that holds both, two folders, photographs whose inputs are derived, scenes."""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from lit_ghibli.data.cache import PackedImages
from lit_ghibli.data.image_files import FolderError, bullets
from lit_ghibli.data.sources import (
    Domain,
    Files,
    Folders,
    FolderSource,
    SceneSource,
    Splits,
    by_stem,
    near_twins,
    partner_indices,
    stem,
    try_all,
)
from lit_ghibli.data.transforms import Half, Step
from lit_ghibli.errors import UserError

log = logging.getLogger(__name__)


def partners(inputs: Files, targets: Files) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Files of two folders that are named alike but for the extension, and what to say of each that has no partner.

    Raises:
        FolderError: Two files of one folder differ in their extension only.
    """
    input_of, target_of = (by_stem(files.folder, files.paths) for files in (inputs, targets))
    pairs = [(path, target_of[name]) for name, path in input_of.items() if name in target_of]
    lines = []
    for mine, other, partner_of in ((inputs, targets, target_of), (targets, inputs, input_of)):
        alone = [path for path in mine.paths if stem(path.relative_to(mine.folder)) not in partner_of]
        hints = near_twins(mine.folder, alone, other.folder, other.paths)
        lines += [f"{path} has no partner in {other.folder}{hint}" for path, hint in zip(alone, hints, strict=True)]
    return pairs, lines


@dataclass(kw_only=True)
class PairFolders(Folders):
    """Folders whose inputs and targets belong together in pairs, both or neither of which are used."""

    def _open_pairs(self, inputs: Domain, targets: Domain, training: bool) -> Splits:
        """Decode both domains, whose files are in the same order, and keep pairs of which both pictures can be used."""
        splits = self._open(inputs, targets, training)
        splits.stands_in = False  # a pair remains one, also where it was trained on
        if training:
            splits.train_input, splits.train_target = self._aligned(splits.train_input, splits.train_target)
        splits.test_input, splits.test_target = self._aligned(splits.test_input, splits.test_target)
        return splits

    def _matched(self, inputs: Files, targets: Files) -> tuple[Files, Files]:
        """Partners in the same order, and a complaint about all files that have none."""
        pairs, lines = partners(inputs, targets)
        self._complain("no partner", lines)
        if not pairs:
            raise FolderError(f"{inputs.folder} and {targets.folder} have no two files named alike")
        paths = zip(*pairs, strict=True)
        return Files(inputs.folder, list(next(paths))), Files(targets.folder, list(next(paths)))

    def _aligned(self, inputs: PackedImages, targets: PackedImages) -> tuple[PackedImages, PackedImages]:
        """Pairs of which both pictures could be decoded and have one shape, up to the rounding of a resize."""
        pairs, unequal = [], []
        for number, partner in enumerate(partner_indices(inputs.names, targets.names)):
            if partner is not None:
                shapes = inputs.shape(number), targets.shape(partner)
                if all(abs(a - b) <= 2 for a, b in zip(*shapes, strict=True)):
                    pairs.append((number, partner))
                else:
                    sizes = " and ".join(f"{width}x{height}" for height, width in shapes)
                    both = f"{inputs.names[number]} and its partner {targets.names[partner]}"
                    unequal.append(f"{both} have different aspects: {sizes}")
        self._complain("two aspects", unequal)
        if not pairs:
            raise FolderError("no pair is left of which both pictures can be used")
        inputs_kept, targets_kept = zip(*pairs, strict=True)
        return inputs.take(inputs_kept), targets.take(targets_kept)

    def _complain(self, what: str, lines: list[str]) -> None:
        if not lines:
            return
        listed = bullets(lines, at_most=len(lines))  # all of them: a shifted numbering shows only in the whole
        if self.on_bad_file == "error":
            raise FolderError(
                f"{len(lines)} files or pairs with {what}; repair or remove them, or set data.on_bad_file=skip:",
                *listed,
            )
        log.warning("\n".join([f"{len(lines)} files or pairs with {what} are skipped:", *listed]))


@dataclass(kw_only=True)
class SideBySideSource(PairFolders):
    """Pictures that hold A in their left and B in their right half, of any size.

    Attributes:
        train: Subfolder to train on.
        test: Held-out subfolder.
        direction: ``AtoB`` translates the left half into the right one, ``BtoA`` the right into the left.
        max_half_aspect: Pictures with halves longer than this, in either direction, count as bad files.
    """

    train: str
    test: str
    direction: Literal["AtoB", "BtoA"]
    max_half_aspect: float

    TRAINED_ON = ("train",)

    def check(self, crop_size: int) -> None:
        """Refuse an unknown direction, too."""
        super().check(crop_size)
        if self.direction not in ("AtoB", "BtoA"):
            raise UserError(f"data.direction must be AtoB (left to right) or BtoA; got {self.direction!r}")
        if not isinstance(self.max_half_aspect, float | int) or self.max_half_aspect < 1:
            raise UserError(f"data.max_half_aspect must be a number, at least 1; got {self.max_half_aspect!r}")

    def load(self, training: bool = True) -> Splits:
        """Decode both halves of every picture; see :class:`~lit_ghibli.data.sources.Source`."""
        found = self._find(self.train, self.test, training)
        left, right = (
            Domain(found.train, found.test, before=[Half(side, self.max_half_aspect)]) for side in ("left", "right")
        )
        inputs, targets = (left, right) if self.direction == "AtoB" else (right, left)
        return self._open_pairs(inputs, targets, training)


@dataclass(kw_only=True)
class DerivedSource(PairFolders):
    """Photographs as targets, whose inputs are computed from them.

    Attributes:
        train: Subfolder to train on.
        test: Held-out subfolder.
        derive: Computes the input from the resized target.
    """

    train: str
    test: str
    derive: Step

    TRAINED_ON = ("train",)

    def check(self, crop_size: int) -> None:
        """Refuse what computes nothing, too."""
        super().check(crop_size)
        if not callable(self.derive):
            raise UserError(f"data.derive is {self.derive!r}; choose a derivation with data/derive=..., with a slash")

    def load(self, training: bool = True) -> Splits:
        """Decode every photograph and derive its input; see :class:`~lit_ghibli.data.sources.Source`."""
        found = self._find(self.train, self.test, training)
        return self._open_pairs(Domain(found.train, found.test, after=[self.derive]), found, training)


@dataclass(kw_only=True)
class TwoFolderSource(PairFolders):
    """Two folders whose files belong together if they are named alike but for the extension.

    Attributes:
        train_input: Subfolder of inputs to train on.
        train_target: Subfolder of their targets.
        test_input: Subfolder of held-out inputs.
        test_target: Subfolder of their targets.
    """

    train_input: str
    train_target: str
    test_input: str
    test_target: str

    TRAINED_ON = ("train_input", "train_target")

    def load(self, training: bool = True) -> Splits:
        """Decode both pictures of every pair; see :class:`~lit_ghibli.data.sources.Source`.

        Raises:
            FolderError: Also where a file has no partner, or two pictures of a pair have different aspects.
        """
        folders = ((self.train_input, self.test_input), (self.train_target, self.test_target))
        inputs, targets = try_all(partial(self._find, *names, training) for names in folders)
        if (inputs.test is None) != (targets.test is None):
            missing = self.test_input if inputs.test is None else self.test_target
            raise FolderError(f"no folder {missing} in {self.root}: held-out pairs need both, or neither folder")
        if inputs.train:
            inputs.train, targets.train = self._matched(inputs.train, targets.train)
        if inputs.test:
            inputs.test, targets.test = self._matched(inputs.test, targets.test)
        return self._open_pairs(inputs, targets, training)


@dataclass(kw_only=True)
class PseudoPairFolders(FolderSource, PairFolders):
    """Two folders of pseudo pairs, besides those of unpaired and of held-out pictures.

    Attributes:
        pair_input: Subfolder of the pairs' photographs, to train on.
        pair_target: Subfolder of their partners, named alike but for the extension.
    """

    pair_input: str
    pair_target: str

    TRAINED_ON = ("pair_input", "pair_target", *FolderSource.TRAINED_ON)

    def load(self, training: bool = True) -> Splits:
        """Decode everything once, or find it in the cache; see :class:`~lit_ghibli.data.sources.Source`.

        Raises:
            FolderError: Also where a file of the pairs has no partner, or two pictures of a pair have different
                aspects.
        """
        folders = (
            (self.train_photo, self.test_photo, training, self.pair_input),
            (self.train_anime, self.test_anime, training, self.pair_target),
        )
        photos, animes = try_all(partial(self._find, *arguments) for arguments in folders)
        if not training:
            return self._open(photos, animes, training)
        photos.pair, animes.pair = self._matched(photos.pair, animes.pair)
        splits = self._open(photos, animes, training)
        splits.pair_input, splits.pair_target = self._aligned(splits.pair_input, splits.pair_target)
        return splits


@dataclass(kw_only=True)
class PseudoPairScenes(SceneSource):
    """Rendered pairs, besides unpaired and held-out pictures; no scene is in two of these sets.

    Attributes:
        pairs: Pairs to train on.
    """

    pairs: int

    def check(self, crop_size: int) -> None:
        """Refuse empty sets, too."""
        super().check(crop_size)
        for field in ("pairs", "count"):
            if getattr(self, field) < 1:
                raise UserError(f"data.{field} must be at least 1; got {getattr(self, field)}")

    def load(self, training: bool = True) -> Splits:
        """Render everything once, or find it in the cache; see :class:`~lit_ghibli.data.sources.Source`."""
        splits = super().load(training)
        if training:
            splits.pair_input = self._render("photo", 2 * self.count, self.pairs)
            splits.pair_target = self._render("ghibli", 2 * self.count, self.pairs)
        return splits
