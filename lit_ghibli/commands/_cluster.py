"""What lets a run have several processes, whoever starts them: Lightning, torchrun, srun or submitit."""

import contextlib
import functools
import importlib.util
import os
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf, read_write

from lit_ghibli.errors import UserError
from lit_ghibli.recipes import quote

_QUIET = "hydra/job_logging=stdout"  # no log file beside rank 0's
_INTERACTIVE = ("bash", "interactive")  # names that SLURM gives to jobs in which a person types


def started(pattern: str) -> str:
    """When this run began, by `strftime` of ``pattern``, or its number: equal in all processes of the run.

    Under srun it is the number of job and step, which a requeue keeps. Processes of torchrun begin seconds apart
    and agree on what the first one says. Further processes that Lightning starts are told their folder.
    """
    if _under_srun():
        return f"slurm_{os.environ['SLURM_JOB_ID']}_{os.environ['SLURM_STEP_ID']}"
    return _what_the_first_says().strftime(pattern) if _under_torchrun() else datetime.now().strftime(pattern)


def quiet_further_processes(arguments: list[str]) -> list[str]:
    """Arguments with which only the first of several processes writes the run's configuration and log."""
    rank = os.environ["RANK"] if _under_torchrun() else os.environ["SLURM_PROCID"] if _under_srun() else "0"
    return arguments if rank == "0" else [*arguments, "hydra.output_subdir=null", _QUIET]


def environment_plugins() -> list[Any]:
    """Lightning's plugins that a cluster asks for: requeueing is ours, since Lightning's has checkpoints of its own."""
    from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return []
    return [SLURMEnvironment(auto_requeue=False)]


@contextlib.contextmanager
def run_of_its_own(module: str) -> Iterator[None]:
    """Make this process look as if it had been started for the current Hydra job alone, and undo it afterwards.

    Lightning starts a run's further processes with the command line of the first. In a multirun that would be all
    jobs once more, and under submitit no job at all. What a job leaves in the environment and its group of
    processes would keep the next job of a multirun from starting any.

    Args:
        module: The command, as in ``python -m module``.
    """
    import torch.distributed as dist

    import __main__

    environment, arguments, spec = dict(os.environ), sys.argv[1:], __main__.__spec__
    if not HydraConfig.initialized():  # called with a configuration composed elsewhere
        yield
        return
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        if _under_torchrun() and int(os.environ["WORLD_SIZE"]) > 1:
            raise UserError(
                "torchrun's processes meet once only: start torchrun for each run, or sweep with launcher=slurm"
            )
        sys.argv[1:] = _own_arguments()
        __main__.__spec__ = importlib.util.find_spec(module)
        _set_run_dir()
    else:
        sys.argv.append(_QUIET)
    try:
        yield
    finally:
        sys.argv[1:], __main__.__spec__ = arguments, spec
        os.environ.clear()
        os.environ.update(environment)
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()


def _own_arguments() -> list[str]:
    """What the current job of a multirun would have been started with by itself."""
    config = HydraConfig.get()
    folders = [source.path for source in config.runtime.config_sources if source.provider == "command-line"]
    number = [f"hydra.job.{key}={quote(str(config.job[key]))}" for key in ("num", "id") if key in config.job]
    return [
        f"--config-name={config.job.config_name}",
        *(f"--config-dir={folder}" for folder in folders),
        *config.overrides.hydra,
        *config.overrides.task,
        *number,
        "hydra.mode=RUN",
        _QUIET,
    ]


def _set_run_dir() -> None:
    """Name the job's folder where Lightning looks for it, as a folder of a single run."""
    config = HydraConfig.get()
    with read_write(config):
        config.run.dir = config.runtime.output_dir


def _under_srun() -> bool:
    """Whether srun started this process, and nobody typed its command into a shell of srun's."""
    typed = "SLURM_PTY_PORT" in os.environ or os.environ.get("SLURM_JOB_NAME") in _INTERACTIVE
    return "SLURM_STEP_ID" in os.environ and not typed


def _under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


@functools.cache
def _what_the_first_says() -> datetime:
    """The time in the first of torchrun's processes when it was first asked for."""
    from torch.distributed import rendezvous

    store, rank, _ = next(rendezvous("env://"))
    if rank == 0:
        store.set("lit_ghibli/started", datetime.now().isoformat())
    return datetime.fromisoformat(store.get("lit_ghibli/started").decode())


OmegaConf.register_new_resolver("started", started, use_cache=True, replace=True)
