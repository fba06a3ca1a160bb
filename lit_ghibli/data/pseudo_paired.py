"""Pseudo pairs beside unpaired pictures, for methods that learn from both at once."""

from functools import partial
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from lit_ghibli.data.cache import PackedImages
from lit_ghibli.data.module import PictureDataModule, crop_alike
from lit_ghibli.data.painted_photos import PaintedPhotos
from lit_ghibli.data.pair_sources import PseudoPairFolders, PseudoPairScenes
from lit_ghibli.data.sampling import Position, walk
from lit_ghibli.seeding import derive_seed, seeded


class PseudoPairedDataset(Dataset):
    """The same crop of both halves of a pair, and crops of their own of a photograph and of an anime picture.

    An epoch has as many positions as the largest of the three sets. Each set is walked through in permutations of
    its own, which go on from one epoch to the next (:func:`~lit_ghibli.data.sampling.walk`): over whole epochs all
    pictures of a set are shown equally often, give or take one, however small it is beside the others.

    Args:
        pair_inputs: Photographs of the pairs.
        pair_targets: Their partners, in the same order.
        photos: Photographs without partners.
        animes: Pictures in the target style, without partners.
        augment: Makes a training crop of ``uint8`` ``(C, H, W)`` whatever C, drawing from torch's generator.
        seed: Seed of the walks and of all draws.
        pair_styles: The style picture of each pair, in the same order, of which a crop is shown, too; None for not.
    """

    def __init__(
        self,
        pair_inputs: PackedImages,
        pair_targets: PackedImages,
        photos: PackedImages,
        animes: PackedImages,
        augment: v2.Transform,
        seed: int,
        pair_styles: PackedImages | None = None,
    ) -> None:
        self.pair_inputs, self.pair_targets, self.photos, self.animes = pair_inputs, pair_targets, photos, animes
        self.augment, self.seed, self.pair_styles = augment, seed, pair_styles

    def __len__(self) -> int:
        return max(len(self.pair_inputs), len(self.photos), len(self.animes))

    def __getitem__(self, position: Position) -> dict[str, Tensor]:
        taken = position.epoch * len(self) + position.index
        pair, photo, anime = (
            walk(taken, len(pictures), derive_seed(self.seed, stream))
            for stream, pictures in enumerate((self.pair_inputs, self.photos, self.animes))
        )
        with seeded(self.seed, position.epoch, position.index):
            pair_a, pair_b = crop_alike(self.augment, self.pair_inputs[pair], self.pair_targets[pair])
            shown = {
                "pair_a": pair_a,
                "pair_b": pair_b,
                "photo": self.augment(self.photos[photo]),
                "anime": self.augment(self.animes[anime]),
            }
            if self.pair_styles is not None:
                shown["pair_style"] = self.augment(self.pair_styles[pair])
            return shown


class PseudoPairedDataModule(PictureDataModule):
    """Pseudo pairs with unpaired pictures: batches of four, ``(N, 3, crop_size, crop_size)`` in ``[-1, 1]`` each.

    ``pair_a`` and ``pair_b`` are the halves of pairs; ``photo`` and ``anime`` have nothing to do with them or with
    each other. Arguments are those of :class:`~lit_ghibli.data.module.PictureDataModule`, but for the source, which the
    class methods make.
    """

    batch_keys = ("pair_a", "pair_b", "photo", "anime")

    @classmethod
    def from_folders(cls, **values: Any) -> "PseudoPairedDataModule":
        """Serve a user's folders, by the fields of :class:`PseudoPairFolders`."""
        return cls.serving(PseudoPairFolders, **values)

    @classmethod
    def from_painted(cls, **values: Any) -> "PseudoPairedDataModule":
        """Serve photographs and painted ones, by the fields of :class:`PaintedPhotos`."""
        return cls.serving(partial(PaintedPhotos, use="semi"), **values)

    @classmethod
    def from_scenes(cls, **values: Any) -> "PseudoPairedDataModule":
        """Serve rendered scenes, by the fields of :class:`PseudoPairScenes`."""
        return cls.serving(partial(PseudoPairScenes, paired=False), **values)

    def training_set(self) -> Dataset:
        """Crops of pairs and of both domains."""
        splits = self.splits
        pictures = (splits.pair_input, splits.pair_target, splits.train_input, splits.train_target)
        return PseudoPairedDataset(*pictures, self.augment, self.seed, splits.pair_style)

    def summary(self) -> str:
        """How many pairs and pictures there are, in words."""
        splits = self.splits
        unpaired = f"{len(splits.train_input):,} photos, {len(splits.train_target):,} anime pictures"
        held_out = f"{len(splits.test_input)} photos and {len(splits.test_target)} anime pictures held out"
        return f"{len(splits.pair_input):,} pseudo pairs, {unpaired}, {held_out}"
