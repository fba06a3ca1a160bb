"""Times the first steps of a training and one validation, and forecasts the rest from them."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from lit_ghibli import checkpoints
from lit_ghibli.inference.profiling import clock

Moment = float | torch.cuda.Event


@dataclass
class Stage:
    """Iterations that cost the same; most trainings are one stage.

    Attributes:
        first: The iteration that it starts with, or goes on with.
        left: Iterations still to do.
        steps: How many of these are tried.
        seconds: Of each tried iteration, from the end of the one before to its own end.
        waiting: Seconds of these before the iteration had its batch.
    """

    first: int
    left: int
    steps: int
    seconds: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)


@dataclass
class Validation:
    """One pass over held-out pictures.

    Attributes:
        seconds: What all pictures take, extrapolated where not all were gone through.
        measured: Batches gone through.
        total: Batches that there are.
    """

    seconds: float
    measured: int
    total: int


class DryRun(Callback):
    """Stops a training after a few steps and a validation, whose times it keeps; put it behind the other callbacks.

    Some steps are tried on each of the method's levels, whose iterations differ in cost.

    Args:
        steps: How many to try, fewer only where the training has fewer.
        validation_batches: How many of each validation loader to try, unless the trainer limits them itself.

    Attributes:
        stages: What was timed; empty where the training had nothing left to do.
        steps_per_epoch: Iterations, of each process.
        validation: None where nothing is held out.
        first_step_at: `clock` at the end of the first step.
    """

    def __init__(self, steps: int, validation_batches: int) -> None:
        self.steps, self.validation_batches = steps, validation_batches
        self.stages: list[Stage] = []
        self.steps_per_epoch = 0
        self.validation: Validation | None = None
        self.first_step_at: float | None = None
        self._limited = False
        self._present = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.limit_val_batches == 1.0 and isinstance(trainer.limit_val_batches, float):
            trainer.limit_val_batches = self.validation_batches
            self._limited = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        done = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        self.steps_per_epoch = int(trainer.num_training_batches)
        lengths = [int(iterations) for _, iterations in pl_module.levels]
        self.stages = plan(lengths or [self.steps_per_epoch * trainer.max_epochs], done, self.steps)
        last = done + sum(stage.steps for stage in self.stages) - 1
        trainer.check_val_every_n_epoch = last // self.steps_per_epoch + 1  # one validation, behind the last step
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)
        self._end = _mark(pl_module.device)
        self._marks: list[tuple[Stage, Moment, Moment, Moment]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._start = _mark(pl_module.device)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        stage, before, self._end = self.stages[self._present], self._end, _mark(pl_module.device)
        self._marks.append((stage, before, self._start, self._end))
        if self.first_step_at is None:
            self.first_step_at = clock(pl_module.device)
        if sum(marks[0] is stage for marks in self._marks) < stage.steps:
            return
        self._present += 1
        if self._present < len(self.stages):
            pl_module.skip_to(self.stages[self._present].first)
        else:
            trainer.should_stop = True
            for stage, before, start, end in self._marks:
                stage.seconds.append(_seconds(before, end))
                stage.waiting.append(_seconds(before, start))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._loader_seconds = [0.0] * len(trainer.num_val_batches)
        self._validated = clock(pl_module.device)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        # By loader: one holds pictures to translate, another those to compare with.
        self._loader_seconds[dataloader_idx] += self._lap(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        measured = [int(count) for count in trainer.num_val_batches]
        loaders = trainer.val_dataloaders
        loaders = loaders if isinstance(loaders, list) else [loaders]
        totals = [len(loader) for loader in loaders] if self._limited else measured
        seconds = sum(s * total / count for s, total, count in zip(self._loader_seconds, totals, measured, strict=True))
        seconds += self._lap(pl_module) * sum(totals) / sum(measured)  # the metrics, of which some compare all with all
        self.validation = Validation(seconds, sum(measured), sum(totals))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.save_checkpoint("weighed, not written")  # by the trainer's plugin

    def _lap(self, pl_module: LightningModule) -> float:
        before, self._validated = self._validated, clock(pl_module.device)
        return self._validated - before


class WeighingCheckpointIO(checkpoints.RunCheckpointIO):
    """Weighs checkpoints instead of writing them.

    Args:
        config: As of a run.

    Attributes:
        bytes: Size of the file that the last checkpoint would have been.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.bytes = 0

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Count the bytes; ``path`` is left alone."""
        scales = _Scales()
        torch.save({**checkpoint, checkpoints.CONFIG_KEY: self.config}, scales)
        self.bytes = scales.bytes


class _Scales(io.RawIOBase):
    """A file of which only the size is kept."""

    bytes = 0

    def write(self, content: Any) -> int:
        written = memoryview(content).nbytes
        self.bytes += written
        return written


def plan(lengths: list[int], done: int, steps: int) -> list[Stage]:
    """Share out steps evenly among the stages that are not over.

    Args:
        lengths: Iterations of each stage, in order.
        done: Iterations of the whole training that are done already.
        steps: To share out, at least one to each stage and no more than it has left.
    """
    stages, end = [], 0
    for length in lengths:
        end += length
        if end > done:
            first = max(done, end - length)
            stages.append(Stage(first, end - first, 0))
    for stage in stages:
        stage.steps = min(max(steps // len(stages), 1), stage.left)
    return stages


def forecast(stages: list[Stage], warm_up: int) -> dict[str, float | int]:
    """What the tried steps say of an iteration and of all that are left.

    Args:
        stages: Of which each was tried.
        warm_up: First steps of each stage that do not count; never more than half of them.

    Returns:
        - ``steps_measured``: how many count.
        - ``seconds_per_iteration``: their median; of several stages, the mean of the medians, weighted by the
          iterations left.
        - ``seconds_p10``, ``seconds_p90``: their tenth and ninetieth percentile, weighted alike.
        - ``waiting_share``: of all time that counts, that spent waiting for batches.
        - ``steps_left``, ``eta_seconds``: iterations to the end, and what they take.
    """
    counted = [slice(min(warm_up, len(stage.seconds) // 2), None) for stage in stages]
    seconds = [
        torch.tensor(stage.seconds[kept], dtype=torch.float64) for stage, kept in zip(stages, counted, strict=True)
    ]
    waiting = sum(sum(stage.waiting[kept]) for stage, kept in zip(stages, counted, strict=True))
    left = torch.tensor([stage.left for stage in stages], dtype=torch.float64)
    low, median, high = (_weighted(seconds, quantile, left) for quantile in (0.1, 0.5, 0.9))
    return {
        "steps_measured": sum(map(len, seconds)),
        "seconds_per_iteration": median,
        "seconds_p10": low,
        "seconds_p90": high,
        "waiting_share": waiting / float(sum(values.sum() for values in seconds)),
        "steps_left": int(left.sum()),
        "eta_seconds": median * float(left.sum()),
    }


def _weighted(seconds: list[Tensor], quantile: float, left: Tensor) -> float:
    quantiles = torch.stack([values.quantile(quantile) for values in seconds])
    return float((quantiles * left).sum() / left.sum())


def _mark(device: torch.device) -> Moment:
    """Now, on the device's own timeline: a GPU runs behind the program that feeds it, and is not made to wait."""
    if device.type != "cuda":
        return clock(device)
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _seconds(before: Moment, after: Moment) -> float:
    if isinstance(before, float):
        return after - before
    after.synchronize()
    return before.elapsed_time(after) / 1000
