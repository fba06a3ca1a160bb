"""Paired pictures: an input and the target that it should become."""

from functools import partial
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from lit_ghibli.data.cache import PackedImages
from lit_ghibli.data.module import PictureDataModule, crop_alike
from lit_ghibli.data.painted_photos import PaintedPhotos
from lit_ghibli.data.pair_sources import DerivedSource, SideBySideSource, TwoFolderSource
from lit_ghibli.data.sampling import Position
from lit_ghibli.data.sources import SceneSource
from lit_ghibli.errors import UserError
from lit_ghibli.seeding import seeded

LAYOUTS = {
    "side_by_side": SideBySideSource,
    "two_folders": TwoFolderSource,
    "derived": DerivedSource,
    "painted": partial(PaintedPhotos, use="pairs"),
    "scenes": partial(SceneSource, paired=True),
}


class PairedDataset(Dataset):
    """The same random crop, mirrored alike, of an input and of its target.

    Args:
        inputs: What is translated.
        targets: What it should become, in the same order.
        augment: Makes a training crop of ``uint8`` ``(C, H, W)`` whatever C, drawing from torch's generator.
        seed: Seed of all draws.
    """

    def __init__(self, inputs: PackedImages, targets: PackedImages, augment: v2.Transform, seed: int) -> None:
        self.inputs, self.targets, self.augment, self.seed = inputs, targets, augment, seed

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, position: Position) -> dict[str, Tensor]:
        with seeded(self.seed, position.epoch, position.index):
            pair = crop_alike(self.augment, self.inputs[position.index], self.targets[position.index])
        return dict(zip(("input", "target"), pair, strict=True))


class PairedDataModule(PictureDataModule):
    """Paired training pictures: batches of ``input`` and ``target``, ``(N, 3, crop_size, crop_size)`` in ``[-1, 1]``.

    Arguments are those of :class:`~lit_ghibli.data.module.PictureDataModule`, but for the source,
    which the class method makes.
    """

    batch_keys = ("input", "target")

    @classmethod
    def from_layout(cls, layout: str, **values: Any) -> "PairedDataModule":
        """Serve pairs that lie as ``layout`` says: a name in :data:`LAYOUTS`, by whose fields they are found.

        Raises:
            UserError: There is no such layout.
        """
        if layout not in LAYOUTS:
            raise UserError(f"data.layout must be one of {', '.join(LAYOUTS)}; got {layout!r}")
        return cls.serving(LAYOUTS[layout], **values)

    def training_set(self) -> Dataset:
        """Crops of pairs."""
        return PairedDataset(self.splits.train_input, self.splits.train_target, self.augment, self.seed)

    def summary(self) -> str:
        """How many pairs there are, in words."""
        return f"{len(self.splits.train_input):,} pairs, {len(self.splits.test_input)} held out"
