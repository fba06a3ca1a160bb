"""The data module of pictures: training crops, and held-out pictures for validation."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from lit_ghibli.data.cache import PackedImages
from lit_ghibli.data.sampling import EpochSampler, Position, ResumableLoader
from lit_ghibli.data.sources import Source, Splits
from lit_ghibli.errors import UserError
from lit_ghibli.images import from_uint8, resample


class HeldOutDataset(Dataset):
    """Whole pictures in order under one key, with the true partner as ``target`` where there is one.

    Args:
        key: ``input`` or ``target``.
        images: The pictures.
        partners: Targets, and the index among them of each picture's partner.
    """

    def __init__(self, key: str, images: PackedImages, partners: tuple[PackedImages, list[int]] | None = None) -> None:
        self.key, self.images, self.partners = key, images, partners

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = {self.key: self.images[index], "name": self.images.names[index]}
        if self.partners is not None:
            targets, indices = self.partners
            item["target"] = resized_like(targets[indices[index]], item[self.key])
        return item


def resized_like(target: Tensor, image: Tensor) -> Tensor:
    """``target`` in the size of its partner: resizing may have rounded the two to sizes one pixel apart."""
    if target.shape == image.shape:
        return target
    height, width = image.shape[-2:]
    resized = resample(Image.fromarray(target.permute(1, 2, 0).numpy()), (width, height))
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


def crop_alike(augment: v2.Transform, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The same training crop of a picture and of its partner, mirrored alike: cut as six channels of one picture."""
    pair = augment(torch.cat([image, resized_like(target, image)]))
    return pair[:3], pair[3:]


class PictureDataModule(LightningDataModule):
    """Training crops in a resumable order, and held-out pictures to look at and to measure on.

    Pictures travel to the device as ``uint8`` and become ``[-1, 1]`` there. Validation has two loaders that give
    whole pictures one at a time, since their sizes differ: ``input`` (with ``target``, the true partner, where
    known), and ``target``, pictures of the domain that is translated to.

    A subclass implements :meth:`training_set` and names the pictures of a training batch in :attr:`batch_keys`.

    Args:
        source: Where the pictures come from.
        crop_size: Side of a training crop, in pixels.
        flip: Probability of mirroring a training crop.
        batch_size: Pictures per domain, step and process.
        num_workers: Loader processes; 0 loads in the training process, which the cache makes cheap.
        seed: Seed of the order and of all augmentation.
        steps_per_epoch: Batches of an epoch in each process, whatever the number of pictures; None for one pass over
            these. Passes follow each other as they do otherwise: only the ends of epochs lie elsewhere.

    Raises:
        UserError: The source's settings cannot work.
    """

    batch_keys: tuple[str, ...]

    def __init__(
        self,
        source: Source,
        crop_size: int,
        flip: float,
        batch_size: int,
        num_workers: int,
        seed: int,
        steps_per_epoch: int | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise UserError(f"data.batch_size must be at least 1; got {batch_size}")
        if steps_per_epoch is not None and steps_per_epoch < 1:
            raise UserError(f"data.steps_per_epoch must be at least 1, or null; got {steps_per_epoch}")
        source.check(crop_size)
        self.source, self.crop_size, self.batch_size = source, crop_size, batch_size
        self.num_workers, self.seed, self.steps_per_epoch = num_workers, seed, steps_per_epoch
        self.augment = v2.Compose([v2.RandomCrop(crop_size), v2.RandomHorizontalFlip(flip)])
        self.splits: Splits | None = None

    @classmethod
    def serving(
        cls,
        make_source: Callable[..., Source],
        *,
        crop_size: int,
        flip: float,
        batch_size: int,
        num_workers: int,
        seed: int,
        steps_per_epoch: int | None = None,
        **fields: Any,
    ) -> "PictureDataModule":
        """Serve the pictures of a source made of ``fields``; the other arguments are those of the class."""
        return cls(make_source(**fields), crop_size, flip, batch_size, num_workers, seed, steps_per_epoch)

    def training_set(self) -> Dataset:
        """Samples by :class:`~lit_ghibli.data.sampling.Position`."""
        raise NotImplementedError

    def prepare_data(self) -> None:
        """Fill the cache on disk once per machine, before other processes look for it."""
        self.setup("fit")  # kept: pictures in RAM are decoded once, and a warning is given once

    def setup(self, stage: str) -> None:
        """Open the pictures, those to train on only if the stage is ``fit``."""
        training = stage == "fit"
        if self.splits is None or (training and self.splits.train_input is None):
            self.splits = self.source.load(training)

    def train_dataloader(self) -> DataLoader:
        """Random crops, in an order that a resumed run continues.

        Raises:
            UserError: One epoch has less than one batch.
        """
        dataset = self.training_set()
        rank, world_size = self._process()
        samples = self.steps_per_epoch and self.steps_per_epoch * self.batch_size
        sampler = EpochSampler(len(dataset), self.seed, rank, world_size, samples)
        if len(sampler) < self.batch_size:
            raise UserError(
                f"{len(dataset)} images for {world_size} processes are no batch of data.batch_size = {self.batch_size}"
            )
        return ResumableLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=True,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            # A generator of its own, so that starting an epoch draws nothing from the global one.
            generator=torch.Generator().manual_seed(self.seed),
        )

    def val_dataloader(self) -> list[DataLoader]:
        """Held-out inputs, then held-out pictures of the target domain."""
        indices = self.splits.partners()
        partners = None if indices is None else (self.splits.test_target, indices)
        inputs = HeldOutDataset("input", self.splits.test_input, partners)
        return [self._held_out(inputs), self._held_out(HeldOutDataset("target", self.splits.test_target))]

    def samples(self, count: int) -> list[dict[str, Tensor]]:
        """``count`` held-out inputs at even distances, with their ``target`` where known.

        Pictures are ``(1, 3, H, W)`` in ``[-1, 1]``.
        """
        held_out = self.val_dataloader()[0].dataset
        count = min(count, len(held_out))
        items = [held_out[number * len(held_out) // count] for number in range(count)]
        return [
            {key: from_uint8(value).unsqueeze(0) for key, value in item.items() if isinstance(value, Tensor)}
            for item in items
        ]

    def training_crops(self, key: str, count: int) -> Iterator[Tensor]:
        """``count`` training crops at even distances, fewer where there are fewer, as the first epoch shows them.

        The same in every process, whatever it has drawn before.

        Args:
            key: Which picture of a sample, of :attr:`batch_keys`.
            count: How many.

        Yields:
            ``(1, 3, crop_size, crop_size)`` in ``[-1, 1]``.
        """
        dataset = self.training_set()
        count = min(count, len(dataset))
        for number in range(count):
            yield from_uint8(dataset[Position(0, number * len(dataset) // count)][key]).unsqueeze(0)

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
