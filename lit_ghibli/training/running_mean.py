"""The mean of a training loss over an epoch, across processes and interruptions."""

import torch
import torch.distributed as dist
from torch import Tensor


class RunningMean:
    """Weighted mean of what was seen since the last reset; of all processes, in equal shares, under DDP.

    Kept on the values' device, so that updating makes no GPU wait. Unlike a torchmetrics mean it is
    saved for every rank (``lit_ghibli.training.rank_state``), so that a resumed epoch goes on with its mean.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.total: Tensor = torch.zeros(2)  # weighted sum, weight

    def update(self, value: Tensor, weight: float) -> None:
        """Add a scalar."""
        value = value.detach().float()
        self.total = self.total.to(value.device) + weight * torch.stack([value, torch.ones_like(value)])

    def compute(self, device: torch.device | str = "cpu") -> float | None:
        """The mean, None of nothing; under DDP a collective call, on ``device``."""
        total = self.total.to(device, copy=True)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(total)
        weighted_sum, weight = total.tolist()
        return weighted_sum / weight if weight else None

    def state_dict(self) -> dict:
        """State for a checkpoint: plain tensors only."""
        return {"total": self.total.cpu()}

    def load_state_dict(self, state: dict) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.total = state["total"]
