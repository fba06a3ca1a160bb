"""Checkpoints from which a run goes on as if it had never stopped."""

import logging
import math
import signal
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from lit_ghibli import checkpoints, cluster, signals
from lit_ghibli.errors import UserError, one_line
from lit_ghibli.files import remove_partials

log = logging.getLogger(__name__)


class _Wish(IntEnum):
    """What a signal asks for; of several, the highest counts."""

    NOTHING = 0
    SAVE = 1
    STOP = 2  # and save before
    REQUEUE = 3  # and save and stop before


class RunCheckpoints(Checkpoint):
    """Writes ``last.ckpt`` every few batches, ``epoch_NNNN.ckpt`` after every epoch, and ``best.ckpt``.

    ``best.ckpt`` is the epoch with the best validation metric so far, which is rarely the last one: small sets
    are learned by heart.

    Counted in batches: Lightning's own step counter counts every optimiser. Nothing is written in the middle
    of a step, so that every file continues bit by bit. Ctrl-C, SIGTERM and a closed terminal finish the step, save, and
    stop; a second Ctrl-C stops at once, which loses what came after the last file. SIGUSR1 and SIGUSR2, with which
    schedulers announce the end, also have the job requeued where there is a scheduler. In a job of SLURM's SIGTERM
    saves, and SLURM ends or requeues the job when it likes.

    Args:
        folder: Where the files go.
        every_n_batches: Batches between two ``last.ckpt``.
        keep_epochs: How many of the newest epoch files are kept; -1 keeps all.
        monitor: Logged metric that tells the best epoch, such as ``val/swd``; None for no ``best.ckpt``.
        mode: Whether the best value is the ``min`` or the ``max``.
        go_on: What a stopped run tells people to type; ``{run}`` stands for its folder.
    """

    def __init__(
        self,
        folder: str | Path,
        every_n_batches: int,
        keep_epochs: int,
        monitor: str | None = None,
        mode: Literal["min", "max"] = "min",
        go_on: str = "lit-ghibli train resume={run}",
    ) -> None:
        if every_n_batches < 1:
            raise UserError(f"every_n_batches must be at least 1; got {every_n_batches}")
        if keep_epochs < -1:
            raise UserError(f"keep_epochs must be -1 (all) or at least 0; got {keep_epochs}")
        if mode not in ("min", "max"):
            raise UserError(f"callbacks.checkpoints.mode must be min or max; got {mode!r}")
        self.folder = Path(folder)
        self.monitor, self.mode, self.go_on = monitor, mode, go_on
        self.best: float | None = None
        self.best_epoch: int | None = None
        self._validated = False
        self.every_n_batches, self.keep_epochs = every_n_batches, keep_epochs
        self.last = self.folder / "last.ckpt"
        self._wish = _Wish.NOTHING
        self._saved_within_epoch = False
        self._previous_handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            remove_partials(self.folder)
            self._find_best()
        for number in (*signals.stop_signals(), *cluster.REQUEUE_SIGNALS):
            self._previous_handlers[number] = signal.signal(number, self._take_note)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_within_epoch = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx + 1 >= trainer.num_training_batches:
            return  # it is saved as an epoch
        wish = self._take_wish(trainer)
        batches = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        self._saved_within_epoch = wish >= _Wish.STOP or trainer.should_stop
        if wish or self._saved_within_epoch or batches % self.every_n_batches == 0:
            trainer.save_checkpoint(self.last)
        if wish >= _Wish.STOP:
            self._interrupt(trainer, wish)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._saved_within_epoch:  # else a stop cut it short: the last file continues inside the epoch
            path = self.folder / f"epoch_{trainer.current_epoch + 1:04d}.ckpt"
            is_best = self._is_best(trainer)  # before saving: a resumed run knows the best value so far
            trainer.save_checkpoint(path)
            if trainer.is_global_zero:
                if is_best:  # before the last file: killed between the two, a run does this epoch again
                    checkpoints.link(path, self.folder / "best.ckpt")
                checkpoints.link(path, self.last)
                newest_first = sorted(self.folder.glob("epoch_*.ckpt"), reverse=True)
                for old in newest_first[self.keep_epochs :] if self.keep_epochs >= 0 else []:
                    old.unlink()
        if (wish := self._take_wish(trainer)) >= _Wish.STOP:
            self._interrupt(trainer, wish)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        self._previous_handlers = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["job"] = cluster.job()  # which goes on with it when it is requeued

    def state_dict(self) -> dict[str, float | None]:
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        self.best, self.best_epoch = state["best"], state.get("best_epoch")  # the first version did not name it

    def _find_best(self) -> None:
        """Where ``best.ckpt`` is gone, as after a step back, let its epoch's file take its place, or begin anew."""
        best = self.folder / "best.ckpt"
        if self.best is None or best.exists():
            return
        epoch = self.folder / f"epoch_{self.best_epoch or 0:04d}.ckpt"
        if epoch.is_file():
            checkpoints.link(epoch, best)
        else:
            self.best = self.best_epoch = None

    def _is_best(self, trainer: Trainer) -> bool:
        """Whether this epoch's metric beats all before it; notes its value."""
        validated, self._validated = self._validated, False
        if self.monitor is None or not validated:
            return False
        if self.monitor not in trainer.callback_metrics:
            logged = sorted(name for name in trainer.callback_metrics if name.startswith("val/"))
            log.warning("no best.ckpt: callbacks.checkpoints.monitor=%s is not logged, only %s", self.monitor, logged)
            self.monitor = None
            return False
        value = float(trainer.callback_metrics[self.monitor])
        sign = 1 if self.mode == "min" else -1
        if not math.isfinite(value) or (self.best is not None and sign * value >= sign * self.best):
            return False
        self.best, self.best_epoch = value, trainer.current_epoch + 1
        return True

    def _take_note(self, number: int, frame: Any) -> None:
        """Remember what a signal asks for until the step is finished."""
        if number == signal.SIGHUP:
            signals.leave_terminal()
        if number == signal.SIGINT and self._wish >= _Wish.STOP:
            raise KeyboardInterrupt
        wish = _Wish.STOP
        if number in cluster.REQUEUE_SIGNALS and cluster.job() is not None:
            wish = _Wish.REQUEUE
        elif number == signal.SIGTERM and cluster.ends_jobs_itself():
            wish = _Wish.SAVE
        if wish >= _Wish.STOP > self._wish:
            print("\nstopping: this step is finished and saved first (Ctrl-C to stop at once)", flush=True)
        self._wish = max(self._wish, wish)

    def _take_wish(self, trainer: Trainer) -> int:
        """The highest wish of all ranks; a wish to save is forgotten, since it is about to be fulfilled."""
        wish, self._wish = self._wish, _Wish.NOTHING if self._wish == _Wish.SAVE else self._wish
        if trainer.world_size == 1:
            return wish
        return int(trainer.strategy.reduce(torch.tensor(wish, device=trainer.strategy.root_device), reduce_op="max"))

    def _interrupt(self, trainer: Trainer, wish: int) -> None:
        """Stop, on all ranks; the first one has the job requeued before if that is asked for."""
        requeue = wish == _Wish.REQUEUE
        how = "the job is requeued" if requeue else f"go on with: {self.go_on.format(run=self.folder.parent)}"
        trainer.print(one_line(f"saved {self.last}; {how}"))
        if not requeue and trainer.is_global_zero:
            raise KeyboardInterrupt
        if requeue and trainer.is_global_zero:
            cluster.requeue(self._previous_handlers)
        raise SystemExit(0)  # anything else would be a failure, on which the others are killed
