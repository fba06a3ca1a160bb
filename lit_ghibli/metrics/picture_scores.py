"""A score of each picture, of which mean and interval are taken."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lit_ghibli.metrics.numbering import image_numbers, in_order


class PictureScores(Metric):
    """Gathers a score of each output and its target.

    Args:
        score: Of images ``(N, 3, H, W)`` and their targets: ``(N,)``.
        by_pixel: Weigh pictures by their pixels, so that the weighted mean is that over all pixels.
    """

    full_state_update = False

    def __init__(self, score: Callable[[Tensor, Tensor], Tensor], by_pixel: bool = False) -> None:
        super().__init__()
        self.score, self.by_pixel = score, by_pixel
        self.add_state("scores", default=[], dist_reduce_fx="cat")
        self.add_state("weights", default=[], dist_reduce_fx="cat")
        self.add_state("numbers", default=[], dist_reduce_fx="cat")
        self.add_state("seen", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add outputs and targets, ``(N, 3, H, W)``."""
        scores = self.score(output, target).float().reshape(-1).to(self.device)
        self.scores.append(scores)
        self.weights.append(torch.full_like(scores, output.shape[2] * output.shape[3] if self.by_pixel else 1.0))
        self.numbers.append(scores.new_tensor(image_numbers(int(self.seen), len(scores))))
        self.seen = self.seen + len(scores)

    def compute(self) -> Tensor:
        """Return scores and weights, ``(2, N)``, in float64 on the CPU, in the pictures' order."""
        rows = torch.stack([dim_zero_cat(self.scores), dim_zero_cat(self.weights)], dim=1)
        return in_order(rows, dim_zero_cat(self.numbers)).T.cpu().double()
