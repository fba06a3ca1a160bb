"""Distillation: a small network learns from pairs to make at once what a slow teacher makes, such as the painter.

x is a photograph, y the teacher's picture of it, G the network.

(1) l1     E_xy[|y - G(x)|_1]
(2) edges  E_xy[|Dy - DG(x)|_1], D the differences between neighbours: outlines and flat fills

No adversary: the teacher's picture is a function of the photograph, so that the mean of all answers is the answer.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_ghibli.methods.base import Translation
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.networks.painting import PaintingNetwork
from lit_ghibli.training.schedules import linear_decay
from lit_ghibli.training.updates import check_weights, update, weighted_sum

DistillAdam = partial(Adam, lr=2e-3, betas=(0.9, 0.99), fused=True)


class Distill(Translation):
    """A network trained on pairs of photographs and a teacher's pictures.

    Args:
        generator: Makes the network.
        optimizer: Makes its optimiser from its parameters.
        weights: Weights of the terms ``l1`` and ``edges``.
        epochs: Length of the training that the schedule is made for.
        decay_epochs: How many of these, at the end, decay the learning rate linearly.
        metrics: What held-out pairs are judged by.
    """

    batch_keys = ("input", "target")

    def __init__(
        self,
        generator: Callable[[], nn.Module] = PaintingNetwork,
        optimizer: Callable[..., Optimizer] = DistillAdam,
        weights: Mapping[str, float] | None = None,
        epochs: int = 12,
        decay_epochs: int = 12,
        metrics: MetricSuite | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = generator()
        self.optimizer = optimizer
        self.weights = check_weights({"l1": 1.0, "edges": 4.0} if weights is None else weights, {"l1", "edges"})
        self.epochs, self.decay_epochs = epochs, decay_epochs
        self.metrics = metrics

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """One update."""
        optimizer = self.optimizers()
        terms = {}
        with update(self, optimizer):
            picture = self.generator(batch["input"])
            if self.weights["l1"]:
                terms["l1"] = F.l1_loss(picture, batch["target"])
            if self.weights["edges"]:
                terms["edges"] = edges_loss(picture, batch["target"])
            self.manual_backward(weighted_sum(terms, self.weights))
            optimizer.step()
        return self.report(terms)

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        optimizer = self.optimizer(self.generator.parameters())
        return [optimizer], [linear_decay(optimizer, epochs=self.epochs, decay_epochs=self.decay_epochs)]

    def translator(self) -> nn.Module:
        return self.generator


def edges_loss(picture: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of the differences between neighbours, along both axes, of ``(N, C, H, W)``."""
    error = picture - target
    return sum(error.diff(dim=axis).abs().mean() for axis in (-2, -1))
