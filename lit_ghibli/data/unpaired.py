"""Unpaired pictures: a photograph and an anime picture that need not show the same."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from lit_ghibli.data.cache import PackedImages
from lit_ghibli.data.module import PictureDataModule
from lit_ghibli.data.painted_photos import PaintedPhotos
from lit_ghibli.data.sampling import Position
from lit_ghibli.data.sources import FolderSource, SceneSource
from lit_ghibli.seeding import seeded


class UnpairedDataset(Dataset):
    """Random crops of a photograph and of a randomly drawn anime picture.

    In an epoch of ``max(len(photos), len(animes))`` positions every photograph appears, in turn; the anime
    picture is drawn at random, so that the pairs differ in every epoch. Source: Zhu et al. 2017, as released.

    Args:
        photos: Pictures of domain A.
        animes: Pictures of domain B.
        augment: Makes a training crop of a ``uint8`` picture ``(3, H, W)``, drawing from torch's generator.
        seed: Seed of all draws.
    """

    def __init__(self, photos: PackedImages, animes: PackedImages, augment: v2.Transform, seed: int) -> None:
        self.photos, self.animes, self.augment, self.seed = photos, animes, augment, seed

    def __len__(self) -> int:
        return max(len(self.photos), len(self.animes))

    def __getitem__(self, position: Position) -> dict[str, Tensor]:
        with seeded(self.seed, position.epoch, position.index):
            anime = int(torch.randint(len(self.animes), ()))
            return {
                "photo": self.augment(self.photos[position.index % len(self.photos)]),
                "anime": self.augment(self.animes[anime]),
            }


class UnpairedDataModule(PictureDataModule):
    """Unpaired training pictures: batches of ``photo`` and ``anime``, ``(N, 3, crop_size, crop_size)`` in ``[-1, 1]``.

    Arguments are those of :class:`~lit_ghibli.data.module.PictureDataModule`, but for the source, which the
    class methods make.
    """

    batch_keys = ("photo", "anime")

    @classmethod
    def from_folders(cls, **values: Any) -> "UnpairedDataModule":
        """Serve a user's folders, by the fields of :class:`FolderSource`."""
        return cls.serving(FolderSource, **values)

    @classmethod
    def from_painted(cls, **values: Any) -> "UnpairedDataModule":
        """Serve photographs and painted ones, by the fields of :class:`PaintedPhotos`."""
        return cls.serving(partial(PaintedPhotos, use="unpaired"), **values)

    @classmethod
    def from_scenes(cls, **values: Any) -> "UnpairedDataModule":
        """Serve rendered scenes, by the fields of :class:`SceneSource`."""
        return cls.serving(partial(SceneSource, paired=False), **values)

    def training_set(self) -> Dataset:
        """Crops of both domains."""
        return UnpairedDataset(self.splits.train_input, self.splits.train_target, self.augment, self.seed)

    def summary(self) -> str:
        """How many pictures there are, in words."""
        splits = self.splits
        held_out = f"{len(splits.test_input)} photos and {len(splits.test_target)} anime pictures held out"
        return f"{len(splits.train_input):,} photos, {len(splits.train_target):,} anime pictures, {held_out}"
