"""The training picture nearest to a picture: whether a held-out one has leaked, or an output was learnt by heart."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from lightning import LightningDataModule
from PIL import Image

from lit_ghibli.data.cache import PackedImages
from lit_ghibli.data.near_duplicates import BITS, perceptual_hash

_GRID = 16  # pixels per side of the colors that are compared where hashes are equally near


class Signature(NamedTuple):
    """A picture as it is compared.

    Attributes:
        hash: `perceptual_hash`.
        colors: ``uint8``, ``(16 * 16 * 3,)``.
    """

    hash: int
    colors: np.ndarray


class Neighbour(NamedTuple):
    """A training picture.

    Attributes:
        index: Which one.
        bits: In how many of 64 its hash differs.
        levels: Root mean square of the difference between both pictures' colors at 16 x 16 pixels, of 255 levels.
    """

    index: int
    bits: int
    levels: float


class Found(NamedTuple):
    """The nearest training picture of somebody's picture.

    Attributes:
        method: Whose picture it is.
        name: Its name, that of the held-out input.
        trained: Who was trained on the picture that was found.
        training: That one's name.
        bits: As in `Neighbour`.
        levels: Likewise.
        picture: The training picture, RGB.
    """

    method: str
    name: str
    trained: str
    training: str
    bits: int
    levels: float
    picture: Image.Image


def signature(image: Image.Image) -> Signature:
    """The signature of an RGB picture."""
    small = image.resize((_GRID, _GRID), Image.Resampling.BOX)
    return Signature(perceptual_hash(image), np.asarray(small, dtype=np.uint8).reshape(-1))


class TrainingPictures:
    """Training pictures of one domain to search; at least one.

    Args:
        packs: All of them.
    """

    def __init__(self, packs: Sequence[PackedImages]) -> None:
        self._places = [(pack, index) for pack in packs for index in range(len(pack))]
        signatures = [signature(self.picture(index)) for index in range(len(self._places))]
        self._bits = _bits([each.hash for each in signatures])
        self._colors = np.stack([each.colors for each in signatures])

    def name(self, index: int) -> str:
        """Name of a picture."""
        pack, place = self._places[index]
        return pack.names[place]

    def picture(self, index: int) -> Image.Image:
        """The picture itself, RGB."""
        pack, place = self._places[index]
        return Image.fromarray(pack[place].permute(1, 2, 0).numpy())

    def nearest(self, picture: Signature) -> Neighbour:
        """The picture whose hash differs in the fewest bits, and of those the one that is nearest in its colors."""
        bits = np.count_nonzero(self._bits != _bits([picture.hash]), axis=1)
        candidates = np.flatnonzero(bits == bits.min())
        difference = self._colors[candidates].astype(np.float64) - picture.colors
        levels = np.sqrt((difference**2).mean(axis=1))
        best = int(levels.argmin())
        return Neighbour(int(candidates[best]), int(bits.min()), float(levels[best]))


def search(method: str, signatures: Mapping[str, Signature], trained: str, training: TrainingPictures) -> list[Found]:
    """The nearest training picture of each of a method's pictures, given by their names."""
    found = []
    for name, picture in signatures.items():
        index, bits, levels = training.nearest(picture)
        found.append(Found(method, name, trained, training.name(index), bits, levels, training.picture(index)))
    return found


def training_pictures(datamodule: LightningDataModule) -> tuple[TrainingPictures, TrainingPictures]:
    """What a run was trained to translate, and pictures of the style that it was shown.

    Raises:
        UserError: They cannot be opened, or are held out themselves.
    """
    datamodule.setup("fit")
    splits = datamodule.splits
    inputs, targets = [splits.train_input, splits.pair_input], [splits.train_target, splits.pair_target]
    return tuple(TrainingPictures([pack for pack in packs if pack is not None]) for packs in (inputs, targets))


def _bits(hashes: Iterable[int]) -> np.ndarray:
    """Bits of hashes, ``(n, 64)``."""
    return np.unpackbits(np.array(list(hashes), dtype=">u8").view(np.uint8).reshape(-1, BITS // 8), axis=1)
