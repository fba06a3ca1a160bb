"""A callback that ends its own process as a power cut would, but only the first time."""

import os
import signal
from pathlib import Path

from lightning.pytorch.callbacks import Callback


class KillOnce(Callback):
    """Kills this process after the given batch, counted from 1, unless the file ``mark`` says that it has done so.

    With ``parent``, the process that started this one is killed just before.
    """

    def __init__(self, batch: int, mark: str, parent: bool = False) -> None:
        self.batch, self.mark, self.parent = batch, Path(mark), parent

    def on_train_batch_end(self, trainer, *arguments) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx + 1 == self.batch and not self.mark.exists():
            self.mark.touch()
            if self.parent:
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
