"""`lit-ghibli estimate`: try a few steps of a training and forecast the rest."""

import os
import warnings
from math import inf
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lit_ghibli.commands._hydra import command
from lit_ghibli.commands._output import output_folder
from lit_ghibli.commands.train import Prepared, expand_resume, prepare
from lit_ghibli.errors import UserError, say
from lit_ghibli.recipes import build
from lit_ghibli.reports.tables import duration, markdown_table, write_table

_KEPT = ("progress_bar", "doctor")  # of a run's callbacks, those that leave nothing behind
_OWN = ("steps", "warm_up", "validation_pictures", "out")  # values that a training does not have
_WAITING = 0.2  # share of the time from which on a better loader is worth the trouble
_FASTER_COMPUTING = "the loader keeps up; smaller crops or networks, preset=cpu or trainer=gpu make steps shorter"
_MIB = 2**20


@command("estimate", expand_resume)
def estimate(config: DictConfig) -> None:
    """Print the forecast, and write ``estimate.csv``, ``.json`` and ``.md`` where ``out`` is given."""
    if config.out:
        output_folder(config.out)
    figures = dry_run(config)
    if figures is None:  # one of several processes, the first of which reports
        return
    print(markdown_table([{"of this training": name, "": value} for name, value in _readable(figures).items()]))
    if config.out:
        write_table([figures], config.out, "estimate")
        say(f"tables: {config.out}")


def dry_run(config: DictConfig) -> dict[str, Any] | None:
    """Begin a training, stop it after a few steps, keep nothing of it, and say what all of it would cost.

    Args:
        config: What ``conf/estimate.yaml`` composes: a training's configuration, ``steps``, ``warm_up`` and
            ``validation_pictures``.

    Returns:
        One row of figures; None in all processes of a training but the first. Besides those of
        `lit_ghibli.callbacks.dry_run.forecast`:

        - ``images_per_second``: of each domain, all processes together; None of a method that optimises one picture.
        - ``limit``, ``advice``: whether ``data`` or ``compute`` holds the training up, and what to do.
        - ``host_peak_mib``: high-water mark of the process's resident set so far; None where there is no Linux.
        - ``cuda_allocated_mib``, ``cuda_reserved_mib``: most of torch's allocator; None without a GPU.
        - ``checkpoint_mib``: size of one checkpoint's file.
        - ``validation_seconds``: of one validation; 0 where nothing is held out. It is extrapolated where
          ``validation_measured`` pictures are fewer than the ``validation_pictures`` that there are.
        - ``startup_seconds``: to the end of the first step, the decoding of pictures that are not cached included.
        - ``eta_with_validation_seconds``: that of all steps and validations that are left.
        - ``total_seconds``: start and all that follows, or until ``trainer.max_time``.

    Raises:
        UserError: As from the training; or its configuration leaves nothing to try.
    """
    import torch  # here, so that --help and --cfg answer at once
    from lightning import Trainer

    from lit_ghibli.callbacks.dry_run import DryRun, WeighingCheckpointIO
    from lit_ghibli.inference.profiling import clock

    started = clock(torch.device("cpu"))
    run = prepare(OmegaConf.masked_copy(config, [key for key in config if key not in _OWN]))
    dry, weighing = DryRun(config.steps, config.validation_pictures), WeighingCheckpointIO(run.resolved)
    callbacks = config.get("callbacks") or {}
    kept = [build(callbacks[name]) for name in _KEPT if callbacks.get(name)]
    trainer: Trainer = build(
        config.trainer,
        callbacks=[*kept, dry],
        logger=False,
        enable_checkpointing=False,
        max_time=None,  # it counts in the forecast, and must not cut the trial short
        plugins=[weighing],
    )
    with warnings.catch_warnings():
        # A run to resume had callbacks that are left out here on purpose.
        warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`")
        trainer.fit(run.method, run.datamodule, ckpt_path=run.checkpoint)
    if not dry.stages:
        raise UserError(f"nothing is left of this training: all method.epochs = {trainer.max_epochs} are done")
    if not trainer.is_global_zero:
        return None
    startup = dry.first_step_at - started
    return {
        **_conditions(run, trainer),
        **(times := _times(dry, trainer, config)),
        **_rates(times, run, trainer.world_size),
        **_memory(),
        "checkpoint_mib": weighing.bytes / _MIB,
        "startup_seconds": startup,
        "total_seconds": startup + min(times["eta_with_validation_seconds"], _max_seconds(config.trainer.max_time)),
    }


def _conditions(run: Prepared, trainer: Any) -> dict[str, Any]:
    """What the figures hold for."""
    from lit_ghibli.inference.profiling import machine

    return {
        "method": type(run.method).__name__,
        **machine(trainer.strategy.root_device),
        "processes": trainer.world_size,
        "precision": str(trainer.precision),
        "batch_size": getattr(run.datamodule, "batch_size", None),
    }


def _times(dry: Any, trainer: Any, config: DictConfig) -> dict[str, Any]:
    """The forecast of all steps and of all validations that are left."""
    from lit_ghibli.callbacks.dry_run import Validation, forecast

    times = forecast(dry.stages, config.warm_up)
    validation = dry.validation or Validation(0.0, 0, 0)
    every, done = config.trainer.check_val_every_n_epoch or 1, dry.stages[0].first
    validations = trainer.max_epochs // every - done // dry.steps_per_epoch // every if dry.validation else 0
    return {
        **times,
        "steps_per_epoch": dry.steps_per_epoch,
        "epochs": trainer.max_epochs,
        "validation_seconds": validation.seconds,
        "validation_measured": validation.measured,
        "validation_pictures": validation.total,
        "validations_left": validations,
        "eta_with_validation_seconds": times["eta_seconds"] + validations * validation.seconds,
    }


def _rates(times: dict[str, Any], run: Prepared, processes: int) -> dict[str, Any]:
    """Pictures per second, and what holds the training up."""
    pictures = getattr(run.datamodule, "batch_size", None)
    waits = times["waiting_share"] >= _WAITING
    return {
        "images_per_second": pictures and pictures * processes / times["seconds_per_iteration"],
        "limit": "data" if waits else "compute",
        "advice": _faster_loading(run) if waits else _FASTER_COMPUTING,
    }


def _faster_loading(run: Prepared) -> str:
    """What to do about a loader that keeps the networks waiting."""
    workers, cores = run.resolved["data"].get("num_workers", 0), os.cpu_count() or 1
    cached = run.resolved["data"].get("cache") == "disk"
    more = f"raise data.num_workers = {workers} (this machine has {cores} cores)"
    return f"{more}, or set data.cache=ram where memory allows" if cached else more


def _memory() -> dict[str, float | None]:
    """Peaks in MiB of this process and of torch's allocator on its GPU."""
    import torch

    from lit_ghibli.inference.profiling import high_water

    host, cuda = high_water(torch.device("cpu")), torch.cuda.is_available()
    return {
        "host_peak_mib": host and host / _MIB,
        "cuda_allocated_mib": torch.cuda.max_memory_allocated() / _MIB if cuda else None,
        "cuda_reserved_mib": torch.cuda.max_memory_reserved() / _MIB if cuda else None,
    }


def _max_seconds(max_time: Any) -> float:
    """Seconds after which ``trainer.max_time`` ends a training."""
    from lightning.pytorch.callbacks import Timer

    return inf if max_time is None else Timer(max_time).time_remaining()


def _readable(figures: dict[str, Any]) -> dict[str, str]:
    """Names and values as people say them."""
    seconds = "seconds_per_iteration", "seconds_p10", "seconds_p90"
    median, low, high = (f"{figures[name]:.4g}" for name in seconds)
    pictures = figures["images_per_second"]
    measured, total = figures["validation_measured"], figures["validation_pictures"]
    tried = "" if measured == total else f", extrapolated from {measured} of {total} pictures"
    memory = {
        "process": figures["host_peak_mib"],
        "allocated on the GPU": figures["cuda_allocated_mib"],
        "reserved there": figures["cuda_reserved_mib"],
    }
    return {
        "method": f"{figures['method']}, {figures['precision']}, {figures['processes']} x {figures['device']}",
        "seconds per iteration": f"{median} (80 % of them {low} to {high}; {figures['steps_measured']} counted)",
        "images per second": "-" if pictures is None else f"{pictures:.4g} of each domain",
        "waiting for data": f"{figures['waiting_share']:.1%} of the time",
        "limit": f"{figures['limit']}: {figures['advice']}",
        "peak memory": ", ".join(f"{name} {value:.0f} MiB" for name, value in memory.items() if value) or "-",
        "one checkpoint": f"{figures['checkpoint_mib']:.4g} MiB",
        "one validation": f"{_duration(figures['validation_seconds'])}{tried}" if total else "none",
        "left": f"{figures['steps_left']:,} iterations of {figures['epochs']} epochs of {figures['steps_per_epoch']:,}",
        "start": f"{_duration(figures['startup_seconds'])} to the end of the first step",
        "iterations alone": _duration(figures["eta_seconds"]),
        "with validations": _duration(figures["eta_with_validation_seconds"]),
        "in all": _duration(figures["total_seconds"]),
    }


def _duration(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 60 else duration(seconds)


if __name__ == "__main__":
    estimate()
