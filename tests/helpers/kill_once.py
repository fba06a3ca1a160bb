"""A callback that ends its own process as a power cut would, but only the first time."""

import os
import signal
from pathlib import Path

from lightning.pytorch.callbacks import Callback


class KillOnce(Callback):
    """Kills this process after the given batch, counted from 1, unless the file ``mark`` says that it has done so.

    With ``sweep``, that which has begun this process is killed just before: the parent of what it is forked from.
    """

    def __init__(self, batch: int, mark: str, sweep: bool = False) -> None:
        self.batch, self.mark, self.sweep = batch, Path(mark), sweep

    def on_train_batch_end(self, trainer, *arguments) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx + 1 == self.batch and not self.mark.exists():
            self.mark.touch()
            if self.sweep:
                stat = Path(f"/proc/{os.getppid()}/stat").read_text()
                os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
