"""Progress of a run in lines: what it is about to do, how far it is, and when it will end."""

import time
from itertools import accumulate
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Timer

from lit_ghibli.reports.tables import duration


class RunProgress(Callback):
    """Prints one line before training, an estimate after the first steps, and one line per epoch.

    Lines suit a terminal with a progress bar and a log file alike. Logs ``train_seconds`` after every epoch: wall
    time since training began, with its validations, of all parts of an interrupted run.

    Args:
        estimate_after: Steps after which the first estimate is printed; the first quarter of them, which is
            slower, does not count.
    """

    def __init__(self, estimate_after: int) -> None:
        self.estimate_after = estimate_after
        self._earlier_seconds = 0.0
        self._started: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        parameters = ", ".join(
            f"{name} {sum(p.numel() for p in network.parameters()):,}" for name, network in pl_module.networks().items()
        )
        images = getattr(trainer.datamodule, "summary", lambda: "")()
        done = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        device = trainer.strategy.root_device
        where = f"{trainer.world_size} x {device.type}" if trainer.world_size > 1 else str(device)
        trainer.print(
            f"{type(pl_module).__name__} on {where}, precision {trainer.precision} | "
            f"parameters: {parameters} | {images} | {_total_batches(trainer):,} iterations in {trainer.max_epochs} "
            f"epochs{f', {done:,} of them done' if done else ''}"
        )
        self._steps = self._epoch_steps = 0  # Lightning starts no epoch when it resumes inside one
        self._started = self._epoch_started = self._warm_since = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_started = time.perf_counter()
        self._epoch_steps = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._steps += 1
        self._epoch_steps += 1
        warmup = self.estimate_after // 4
        if self._steps == warmup:
            self._warm_since = time.perf_counter()
        if self._steps == self.estimate_after:
            seconds = (time.perf_counter() - self._warm_since) / (self._steps - warmup)
            trainer.print(f"{seconds:.3f} s per iteration, so about {self._remaining(trainer, seconds)} to go")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        elapsed = time.perf_counter() - self._epoch_started
        seconds = elapsed / max(self._epoch_steps, 1)
        waiting = getattr(trainer.train_dataloader, "seconds_waiting", 0.0) / elapsed
        times = {"train/data_wait_share": waiting, "train_seconds": self._seconds()}
        pl_module.log_dict(times, sync_dist=trainer.world_size > 1)
        values = " ".join(
            f"{name.removeprefix('train/')}={float(value):.4g}"
            for name, value in sorted(trainer.callback_metrics.items())
            if name not in times
        )
        trainer.print(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs} in {duration(elapsed)}, {seconds:.3f} s/it, "
            f"{waiting:.1%} of it waiting for data, {self._remaining(trainer, seconds)} to go | {values}"
        )

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self._seconds()}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self._earlier_seconds = state["seconds"]

    def _seconds(self) -> float:
        return self._earlier_seconds + (0.0 if self._started is None else time.perf_counter() - self._started)

    def _remaining(self, trainer: Trainer, seconds: float) -> str:
        """Until the last epoch ends, or until ``trainer.max_time``.

        Where iterations of another level of the method follow, until they begin, since what they cost is not known.
        """
        done = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        ends = accumulate(int(iterations) for _, iterations in trainer.lightning_module.levels)
        total = _total_batches(trainer)
        end = next((end for end in ends if done < end), total)
        limits = [timer.time_remaining() or 0.0 for timer in trainer.callbacks if isinstance(timer, Timer)]
        span = duration(max(min((end - done) * seconds, *limits, float("inf")), 0))
        return span if end == total else f"{span} and {total - end:,} iterations of another cost"


def _total_batches(trainer: Trainer) -> int:
    return int(trainer.num_training_batches * max(trainer.max_epochs, 0))
