"""Empty batches, for a method that optimizes one picture and needs no data but the number of its iterations."""

from collections.abc import Sequence

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from lit_ghibli.data.sampling import EpochSampler, Position, ResumableLoader
from lit_ghibli.errors import UserError


class _Positions(Dataset):
    """A sample is its position."""

    def __getitem__(self, position: Position) -> Position:
        return position


class IterationsDataModule(LightningDataModule):
    """Empty batches, as many as there are iterations, in epochs of equal length.

    An epoch is what lies between two lines of progress and two kept checkpoints; levels may change inside.

    Args:
        levels: ``(scale, iterations)`` of each pyramid level.
        epochs: Into how many epochs all iterations are divided.
        seed: Of the order of positions.

    Raises:
        UserError: The iterations cannot be divided so.
    """

    def __init__(self, levels: Sequence[tuple[float, int]], epochs: int, seed: int) -> None:
        super().__init__()
        total = sum(iterations for _, iterations in levels)
        if epochs < 1 or total < 1 or total % epochs:
            raise UserError(
                f"the {total} iterations of method.levels cannot be divided into method.epochs = {epochs} equal parts; "
                "method.epochs=1 always works"
            )
        self.iterations, self.seed = total // epochs, seed

    def train_dataloader(self) -> DataLoader:
        """One batch for each iteration of an epoch; a resumed run goes on within it."""
        return ResumableLoader(
            _Positions(),
            batch_size=1,
            sampler=EpochSampler(self.iterations, self.seed),
            generator=torch.Generator(),  # its own, so that starting an epoch draws nothing from the global one
        )

    def summary(self) -> str:
        """What is trained on, for people."""
        return "one picture"
