"""A table of the losses, a line every few iterations."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from lit_ghibli.errors import UserError

WIDTH = 14  # characters of a column


class LossTable(Callback):
    """Prints the losses of iterations 0, n, 2n, ..., each before its update, and those of the last iteration.

    Args:
        every_n_iterations: n.
    """

    def __init__(self, every_n_iterations: int) -> None:
        if every_n_iterations < 1:
            raise UserError(f"callbacks.loss_table.every_n_iterations must be at least 1; got {every_n_iterations}")
        self.every_n_iterations = every_n_iterations
        self._headed = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        iteration = pl_module.iteration - 1
        last = trainer.current_epoch + 1 == trainer.max_epochs and batch_idx + 1 == trainer.num_training_batches
        if iteration % self.every_n_iterations and not last:
            return
        losses = outputs["losses"]
        if not self._headed:
            trainer.print("".join(f"{title:>{WIDTH}}" for title in ("iteration", *losses)))
            self._headed = True
        values = "".join(f"{float(value):>{WIDTH}.6g}" for value in losses.values())
        trainer.print(f"{iteration:>{WIDTH},}{values}")
