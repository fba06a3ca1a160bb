"""What lets a run that Hydra has composed have several processes, whoever starts them."""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import read_write

from lit_ghibli.cluster import is_first_process, under_torchrun
from lit_ghibli.commands._hydra import job_overrides
from lit_ghibli.errors import UserError
from lit_ghibli.overrides import quote

_QUIET = "hydra/job_logging=stdout"  # no log file beside rank 0's


def quiet_further_processes(arguments: list[str]) -> list[str]:
    """Arguments with which only the first of several processes writes the run's configuration and log."""
    return arguments if is_first_process() else [*arguments, "hydra.output_subdir=null", _QUIET]


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
    config = HydraConfig.get()
    if config.mode == RunMode.MULTIRUN:
        if under_torchrun() and int(os.environ["WORLD_SIZE"]) > 1:
            raise UserError(
                "torchrun's processes meet once only: start torchrun for each run, or sweep with launcher=slurm"
            )
        sys.argv[1:] = _own_arguments()
        __main__.__spec__ = importlib.util.find_spec(module)
        with read_write(config):
            config.run.dir = config.runtime.output_dir  # where Lightning looks for it
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
    number = [f"hydra.job.{key}={quote(str(config.job[key]))}" for key in ("num", "id") if key in config.job]
    return [
        f"--config-name={config.job.config_name}",
        *config.overrides.hydra,
        *job_overrides(),
        *number,
        "hydra.mode=RUN",
        _QUIET,
    ]
