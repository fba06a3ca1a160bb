"""A folder for each new run: owned before Hydra writes into it, and another one where it is taken."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, read_write

from lit_ghibli import cluster
from lit_ghibli.errors import UserError
from lit_ghibli.overrides import quote


class ClaimFolder(Callback):
    """Owns a run's folder from its start, as :mod:`lit_ghibli.callbacks.run_owner` has it.

    A folder that was typed is refused where it holds a run, or, of a sweep, the runs of another. One that was not gets
    a number at its end where somebody else began in the same second.
    """

    def on_run_start(self, config: DictConfig, **options: Any) -> None:
        from lit_ghibli import checkpoints  # here, so that --help answers at once
        from lit_ghibli.callbacks import run_owner

        if not run_owner.is_first():
            return
        HydraConfig.instance().set_config(config)  # which Hydra itself does later: names are made of its choices
        folder, numbered = Path(config.hydra.run.dir), _may_be_numbered(config, "hydra.run.dir")
        with _one_message(config):
            if config.resume or checkpoints.of_this_job(folder):
                run_owner.acquire(folder)
                return
            taken = run_owner.claim(folder, numbered=numbered)
        with read_write(config.hydra):
            config.hydra.run.dir = str(taken)

    def on_multirun_start(self, config: DictConfig, **options: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        if config.resume or not cluster.is_first_process():
            return
        if not _may_be_numbered(config, "hydra.sweep.dir"):
            is_search = config.hydra.sweeper._target_.endswith(".SearchSweeper")  # which goes on with its own
            with _one_message(config):
                if (folder / "multirun.yaml").exists() and not is_search:
                    raise UserError(f"{folder} holds the runs of a sweep: give another folder, or go on with one run")
            return
        for number in count(2):
            try:
                folder.mkdir(parents=True)
                break
            except FileExistsError:
                folder = Path(f"{config.hydra.sweep.dir}_{number}")
            except OSError:  # which is said where Hydra makes it
                return
        with read_write(config.hydra):
            config.hydra.sweep.dir = str(folder)
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quote(str(folder))}")  # of which jobs are composed


def _may_be_numbered(config: DictConfig, key: str) -> bool:
    """Whether a folder was not typed, and no other process has to find its name."""
    return cluster.is_alone() and not any(word.startswith(f"{key}=") for word in config.hydra.overrides.hydra)


@contextmanager
def _one_message(config: DictConfig) -> Iterator[None]:
    """End the program: Hydra would only warn of other exceptions of its callbacks."""
    try:
        yield
    except UserError as error:
        raise SystemExit(f"lit-ghibli {config.hydra.job.config_name}: {error}") from error
