"""Data order and augmentation as a function of (seed, epoch, position), so that a run can go on mid-epoch."""

import functools
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from lit_ghibli.seeding import derive_seed


class Position(NamedTuple):
    """Where a training sample stands; all its random choices follow from it."""

    epoch: int  # passes over the data before this one: epochs, unless their length is given
    index: int


class EpochSampler(Sampler[Position]):
    """A fresh permutation of ``range(length)`` in every epoch, shared out among the ranks.

    Every rank gets ``length // world_size`` positions, so that all do the same number of steps. The order
    depends on the seed and the epoch alone: not on workers, nor on whether the run was interrupted.

    With ``samples`` every rank gets that many in an epoch, of permutations one after the other, as many as it takes.

    Args:
        length: Positions in one pass over the data.
        seed: Seed of the order.
        rank: This process.
        world_size: Number of processes.
        samples: Positions of an epoch for each rank; None for one pass.
    """

    def __init__(self, length: int, seed: int, rank: int = 0, world_size: int = 1, samples: int | None = None) -> None:
        self.length, self.seed, self.rank, self.world_size = length, seed, rank, world_size
        self.samples = samples
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.world_size if self.samples is None else self.samples

    def __iter__(self) -> Iterator[Position]:
        if self.samples is not None:
            for sample in range(self.epoch * self.samples + self.start, (self.epoch + 1) * self.samples):
                passes, place = divmod(sample * self.world_size + self.rank, self.length)
                yield Position(passes, int(_permutation(self.length, derive_seed(self.seed, passes))[place]))
            return
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
        order = torch.randperm(self.length, generator=generator)[: len(self) * self.world_size]
        for index in order[self.rank :: self.world_size][self.start :].tolist():
            yield Position(self.epoch, index)


def walk(position: int, count: int, seed: int) -> int:
    """The element at a position of an endless row of permutations of ``range(count)``, each a fresh one.

    Of the first ``k`` positions, whatever ``k``, every element has ``k // count`` or one more. Sets of different
    sizes that are walked through side by side are therefore each shown evenly, in ever new combinations.

    Args:
        position: Samples taken before this one, since the first epoch.
        count: Elements of the set.
        seed: Seed of this set's walk, another than those of the sets beside it.
    """
    cycle, place = divmod(position, count)
    return int(_permutation(count, derive_seed(seed, cycle))[place])


# An epoch jumps about in its positions, and so in the cycles of a small set. Those of a large one are few, and what
# does not fit is small and quickly made again: 32 permutations of 90,000 are 12 MB, one of 2,800 takes microseconds.
@functools.lru_cache(maxsize=32)
def _permutation(count: int, seed: int) -> Tensor:
    return torch.randperm(count, dtype=torch.int32, generator=torch.Generator().manual_seed(seed))


class ResumableLoader(DataLoader):
    """A DataLoader over an :class:`EpochSampler` that can go on in the middle of an epoch.

    Lightning stores :meth:`state_dict` in every checkpoint and restores it. Unlike a loader that stores its
    workers' states, the number of workers may change in between.

    Attributes:
        seconds_waiting: Time that the training loop waited for batches in the current epoch.
    """

    seconds_waiting = 0.0
    _given = 0
    _resume_at = 0

    def __iter__(self) -> Iterator[Any]:
        self._given, self._resume_at = self._resume_at, 0
        self.sampler.start = self._given * self.batch_size
        self.seconds_waiting = 0.0
        batches = super().__iter__()
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self.seconds_waiting += time.perf_counter() - asked
            if batch is None:
                return
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Batches given in the current epoch; 0 when it is over."""
        return {"batches_given": self._given % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration start after the batches that were given."""
        self._resume_at = state["batches_given"]
