"""A callback that stops a run as a time limit does, but at a known batch."""

from lightning.pytorch.callbacks import Callback


class StopAt(Callback):
    """Asks the trainer to stop after the given batch, counted from 1."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_end(self, trainer, *arguments) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx + 1 == self.batch:
            trainer.should_stop = True
