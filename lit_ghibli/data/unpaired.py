"""Unpaired pictures: a photograph and an anime picture that need not show the same."""

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

    Arguments are those of :class:`~lit_ghibli.data.module.PictureDataModule`.
    """

    batch_keys = ("photo", "anime")

    @classmethod
    def from_folders(
        cls,
        *,
        crop_size: int,
        flip: float,
        batch_size: int,
        num_workers: int,
        seed: int,
        steps_per_epoch: int | None = None,
        **folders: Any,
    ) -> "UnpairedDataModule":
        """Serve a user's folders; ``folders`` are the fields of :class:`FolderSource`."""
        return cls(FolderSource(**folders), crop_size, flip, batch_size, num_workers, seed, steps_per_epoch)

    @classmethod
    def from_painted(
        cls,
        *,
        crop_size: int,
        flip: float,
        batch_size: int,
        num_workers: int,
        seed: int,
        steps_per_epoch: int | None = None,
        **photos: Any,
    ) -> "UnpairedDataModule":
        """Serve photographs and painted ones; ``photos`` are the fields of :class:`PaintedPhotos`."""
        return cls(
            PaintedPhotos(use="unpaired", **photos), crop_size, flip, batch_size, num_workers, seed, steps_per_epoch
        )

    @classmethod
    def from_scenes(
        cls,
        *,
        crop_size: int,
        flip: float,
        batch_size: int,
        num_workers: int,
        seed: int,
        steps_per_epoch: int | None = None,
        **scenes: Any,
    ) -> "UnpairedDataModule":
        """Serve rendered scenes; ``scenes`` are the fields of :class:`SceneSource`."""
        return cls(SceneSource(paired=False, **scenes), crop_size, flip, batch_size, num_workers, seed, steps_per_epoch)

    def training_set(self) -> Dataset:
        """Crops of both domains."""
        return UnpairedDataset(self.splits.train_input, self.splits.train_target, self.augment, self.seed)

    def summary(self) -> str:
        """How many pictures there are, in words."""
        splits = self.splits
        held_out = f"{len(splits.test_input)} photos and {len(splits.test_target)} anime pictures held out"
        return f"{len(splits.train_input):,} photos, {len(splits.train_target):,} anime pictures, {held_out}"
