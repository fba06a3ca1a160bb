"""Norms and histograms of gradients and weights."""

import math
from typing import Any, Literal

import numpy as np
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.optim import Optimizer

from lit_ghibli.callbacks.loggers import Histogram, log_histograms
from lit_ghibli.errors import UserError

BINS = 64


class Watch(Callback):
    """Every few batches, the norm of each network's gradient in every log, and histograms in those that take them.

    Gradients are those that an optimiser has just used: summed over all losses of its phase, averaged over ranks,
    not scaled. `wandb.watch` would see those of each backward pass by itself, which a GAN's step has several of.

    Args:
        what: ``gradients``, or ``all``: weights, too; None: nothing, at no cost.
        every_n_batches: Batches from one look to the next.

    Raises:
        UserError: An argument is something else.
    """

    def __init__(self, what: Literal["gradients", "all"] | None, every_n_batches: int) -> None:
        if what not in (None, "gradients", "all"):
            raise UserError(f"callbacks.watch.what must be null, gradients or all; got {what!r}")
        if every_n_batches < 1:
            raise UserError(f"callbacks.watch.every_n_batches must be at least 1; got {every_n_batches}")
        self.what, self.every_n_batches = what, every_n_batches
        self._handles: list[Any] = []
        self._looking = False

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.what is None:
            return
        self._names = {id(parameter): name for name, parameter in pl_module.named_parameters()}
        self._handles = [optimizer.register_step_post_hook(self._look) for optimizer in trainer.optimizers]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._looking = bool(self._handles) and _batch(trainer) % self.every_n_batches == 0
        self._histograms: dict[str, Histogram] = {}
        self._squares: dict[str, float] = {}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if not self._looking:
            return
        norms = {f"gradient_norm/{network}": math.sqrt(squares) for network, squares in self._squares.items()}
        for logger in trainer.loggers:
            logger.log_metrics(norms, _batch(trainer))
        log_histograms(trainer, self._histograms, _batch(trainer))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _look(self, optimizer: Optimizer, *arguments: Any) -> None:
        if not self._looking:
            return
        for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
            if parameter.grad is None:
                continue
            name = self._names[id(parameter)]
            network = name.split(".")[0]
            squares = float(parameter.grad.double().square().sum())
            self._squares[network] = self._squares.get(network, 0.0) + squares
            self._note(f"gradients/{name}", parameter.grad)
            if self.what == "all":
                self._note(f"parameters/{name}", parameter)

    def _note(self, key: str, values: Tensor) -> None:
        flat = values.detach().double().cpu().numpy().ravel()  # neighbouring float32 have no 64 bins between them
        finite = flat[np.isfinite(flat)]
        if finite.size:
            self._histograms[key] = np.histogram(finite, BINS)


def _batch(trainer: Trainer) -> int:
    """The step under which Lightning logs this batch."""
    return trainer.fit_loop.epoch_loop.total_batch_idx
