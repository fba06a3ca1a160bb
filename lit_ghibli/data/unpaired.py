"""Unpaired pictures: a photograph and an anime picture that need not show the same."""

from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from lit_ghibli.data.cache import PackedImages
from lit_ghibli.data.sampling import EpochSampler, Position, ResumableLoader
from lit_ghibli.data.sources import FolderSource, SceneSource, Splits
from lit_ghibli.errors import UserError
from lit_ghibli.images import from_uint8
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


class HeldOutDataset(Dataset):
    """Whole pictures in order under one key, with the true partner as ``anime`` where there is one.

    Args:
        key: ``photo`` or ``anime``.
        images: The pictures.
        partners: Pictures of the style, and the index among them of each picture's partner.
    """

    def __init__(self, key: str, images: PackedImages, partners: tuple[PackedImages, list[int]] | None = None) -> None:
        self.key, self.images, self.partners = key, images, partners

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = {self.key: self.images[index], "name": self.images.names[index]}
        if self.partners is not None:
            animes, indices = self.partners
            # Resizing may have rounded the two to sizes one pixel apart.
            item["anime"] = v2.functional.resize(animes[indices[index]], item[self.key].shape[-2:], antialias=True)
        return item


class UnpairedDataModule(LightningDataModule):
    """Unpaired training pictures, and held-out ones to look at and to measure on.

    Batches hold ``photo`` and ``anime``, ``(N, 3, crop_size, crop_size)`` in ``[-1, 1]``; they travel to the
    device as ``uint8``. Validation has two loaders: photographs (with ``anime``, the partner, where known), and
    pictures of the style, one at a time since their sizes differ.

    Args:
        source: Where the pictures come from.
        crop_size: Side of a training crop, in pixels.
        flip: Probability of mirroring a training crop.
        batch_size: Pictures per domain, step and process.
        num_workers: Loader processes; 0 loads in the training process, which the cache makes cheap.
        seed: Seed of the order and of all augmentation.
    """

    def __init__(
        self,
        source: FolderSource | SceneSource,
        crop_size: int = 256,
        flip: float = 0.5,
        batch_size: int = 1,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.source, self.crop_size, self.batch_size = source, crop_size, batch_size
        self.num_workers, self.seed = num_workers, seed
        self.augment = v2.Compose([v2.RandomCrop(crop_size), v2.RandomHorizontalFlip(flip)])
        self.splits: Splits | None = None

    @classmethod
    def from_folders(
        cls, *, crop_size: int, flip: float, batch_size: int, num_workers: int, seed: int, **folders: Any
    ) -> "UnpairedDataModule":
        """Serve a user's folders; ``folders`` are the fields of :class:`FolderSource`.

        Raises:
            UserError: No root was given, or pictures are loaded at a smaller size than their crops.
        """
        source = FolderSource(**folders)
        if source.root is None:
            raise UserError(
                "data.root is not set: give the folder that holds "
                f"{source.train_photo}/ and {source.train_anime}/, or use data=scenes for rendered pictures"
            )
        if source.load_size < crop_size:
            raise UserError(f"data.load_size = {source.load_size} is smaller than data.crop_size = {crop_size}")
        return cls(source, crop_size, flip, batch_size, num_workers, seed)

    @classmethod
    def from_scenes(
        cls, *, crop_size: int, flip: float, batch_size: int, num_workers: int, seed: int, **scenes: Any
    ) -> "UnpairedDataModule":
        """Serve rendered scenes; ``scenes`` are the fields of :class:`SceneSource`.

        Raises:
            UserError: The scenes are smaller than their crops.
        """
        source = SceneSource(**scenes)
        if source.size < crop_size:
            raise UserError(f"data.size = {source.size} is smaller than data.crop_size = {crop_size}")
        return cls(source, crop_size, flip, batch_size, num_workers, seed)

    def prepare_data(self) -> None:
        """Fill the cache on disk once per machine, before other processes look for it."""
        self.setup("fit")  # kept: pictures in RAM are decoded once, and a warning is given once

    def setup(self, stage: str) -> None:
        """Open the pictures, those to train on only if the stage is ``fit``."""
        training = stage == "fit"
        if self.splits is None or (training and self.splits.train_photo is None):
            self.splits = self.source.load(training)

    def train_dataloader(self) -> DataLoader:
        """Random crops of both domains, in an order that a resumed run continues.

        Raises:
            UserError: One epoch has less than one batch.
        """
        dataset = UnpairedDataset(self.splits.train_photo, self.splits.train_anime, self.augment, self.seed)
        rank, world_size = self._process()
        sampler = EpochSampler(len(dataset), self.seed, rank, world_size)
        if len(sampler) < self.batch_size:
            raise UserError(
                f"{len(dataset)} images for {world_size} processes are no batch of data.batch_size = {self.batch_size}"
            )
        return ResumableLoader(dataset, sampler=sampler, drop_last=True, **self._loading())

    def val_dataloader(self) -> list[DataLoader]:
        """Held-out photographs, then held-out pictures of the style."""
        indices = self.splits.partners()
        partners = None if indices is None else (self.splits.test_anime, indices)
        photos = HeldOutDataset("photo", self.splits.test_photo, partners)
        return [self._held_out(photos), self._held_out(HeldOutDataset("anime", self.splits.test_anime))]

    def sample_photos(self, count: int) -> list[Tensor]:
        """``count`` held-out photographs at even distances, each ``(1, 3, H, W)`` in ``[-1, 1]``."""
        photos = self.splits.test_photo
        count = min(count, len(photos))
        return [from_uint8(photos[number * len(photos) // count]).unsqueeze(0) for number in range(count)]

    def summary(self) -> str:
        """How many pictures there are, in words."""
        splits = self.splits
        held_out = f"{len(splits.test_photo)} photos and {len(splits.test_anime)} anime pictures held out"
        return f"{len(splits.train_photo):,} photos, {len(splits.train_anime):,} anime pictures, {held_out}"

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Turn pictures from ``uint8`` into ``[-1, 1]`` on the device, in the networks' precision."""
        dtype = self.trainer.lightning_module.dtype if self.trainer else torch.float32
        return {
            key: from_uint8(value).to(dtype) if isinstance(value, Tensor) and value.dtype == torch.uint8 else value
            for key, value in batch.items()
        }

    def _process(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _held_out(self, dataset: Dataset) -> DataLoader:
        # Every picture goes to one rank only: padding the shorter shares would count some of them twice.
        rank, world_size = self._process()
        if len(dataset) < world_size:  # a process without one would not join the others in computing the metrics
            raise UserError(f"{len(dataset)} held-out images cannot be shared out among {world_size} processes")
        return DataLoader(dataset, batch_size=1, sampler=range(rank, len(dataset), world_size))

    def _loading(self) -> dict[str, Any]:
        return {
            "batch_size": self.batch_size,
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
            # A generator of its own, so that starting an epoch draws nothing from the global one.
            "generator": torch.Generator().manual_seed(self.seed),
        }
