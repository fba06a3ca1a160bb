"""Numbers of images within a set, the same however many processes measure it."""

import torch
import torch.distributed as dist
from torch import Tensor


def image_numbers(first: int, count: int) -> list[int]:
    """Numbers in the whole set of this process's images ``first``, ``first + 1``, ...

    Process r of w has the numbers r, r + w, ...: held-out pictures are dealt out like that.
    """
    distributed = dist.is_available() and dist.is_initialized()
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if distributed else (0, 1)
    return [rank + world_size * number for number in range(first, first + count)]


def in_order(rows: Tensor, numbers: Tensor) -> Tensor:
    """Rows, gathered process by process, in the order of their images' numbers: what is drawn from them depends on it.

    Numbers that are there twice, of images that were not dealt out in turn, keep their order.
    """
    return rows[torch.argsort(numbers, stable=True)]
