"""What a run knows of who started it: SLURM, with or without submitit, submitit on one machine, srun or torchrun."""

import functools
import os
import signal
import subprocess
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from lit_ghibli.errors import UserError

REQUEUE_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)  # of plain SLURM scripts by convention, and of submitit

_INTERACTIVE = ("bash", "interactive")  # names that SLURM gives to jobs in which a person types


def started(pattern: str) -> str:
    """When this run began, by `strftime` of ``pattern``, or its number: equal in all processes of the run.

    Under srun it is the number of job and step, which a requeue keeps. Processes of torchrun begin seconds apart
    and agree on what the first one says. Further processes that Lightning starts are told their folder.
    """
    if _under_srun():
        return f"slurm_{os.environ['SLURM_JOB_ID']}_{os.environ['SLURM_STEP_ID']}"
    return _what_the_first_says().strftime(pattern) if under_torchrun() else datetime.now().strftime(pattern)


def is_first_process() -> bool:
    """Whether this is the one process, of those that srun or torchrun has started, that writes the run's files."""
    if under_torchrun():
        return os.environ["RANK"] == "0"
    return not _under_srun() or os.environ["SLURM_PROCID"] == "0"


def is_alone() -> bool:
    """Whether neither srun nor torchrun started this process, perhaps with others that have to agree with it."""
    return not (under_torchrun() or _under_srun())


def environment_plugins() -> list[Any]:
    """Lightning's plugins that a cluster asks for: requeueing is ours, since Lightning's has checkpoints of its own."""
    from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return []
    return [SLURMEnvironment(auto_requeue=False)]


def job() -> str | None:
    """The scheduler's name for the job that this process belongs to, which a requeue keeps; None outside of any."""
    if os.environ.get("SUBMITIT_EXECUTOR") == "local":
        return f"submitit {os.environ['SUBMITIT_LOCAL_JOB_ID']}"
    if number := os.environ.get("SLURM_JOB_ID"):
        return f"slurm {number}"
    return None


def ends_jobs_itself() -> bool:
    """Whether SIGTERM only announces an end, of a job that was cancelled or that SLURM requeues by itself.

    A preempted job that stops at once is over for SLURM, and one that was cancelled must not be requeued by us.
    """
    return (job() or "").startswith("slurm")


def requeue(handlers: Mapping[int, Any]) -> None:
    """Ask the scheduler to start this job again; to be called by one process of the job.

    Args:
        handlers: What handled signals before this run, by number: submitit's is called.

    Raises:
        SystemExit: submitit has requeued the job.
        UncompletedJobError: submitit has not, since the job ran out of its time too often.
        UserError: SLURM has not.
    """
    if "SUBMITIT_EXECUTOR" in os.environ:
        number = getattr(signal, "SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2"))
        handlers[number](number, None)
        return
    command = ["scontrol", "requeue", os.environ["SLURM_JOB_ID"]]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = str(getattr(error, "stderr", None) or error).strip()
        raise UserError(f"`{' '.join(command)}` failed, so the run stops here, saved: {said}") from error


def may_be_requeued() -> bool:
    """Whether this job may have run before; submitit's local executor does not say."""
    if os.environ.get("SUBMITIT_EXECUTOR") == "local":
        return True
    return int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0


def without_job(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what a scheduler has put into it, for a process that shall not take itself for its job."""
    return {name: value for name, value in environment.items() if not name.startswith(("SLURM_", "SUBMITIT_", "PMI"))}


def under_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _under_srun() -> bool:
    """Whether srun started this process, and nobody typed its command into a shell of srun's."""
    typed = "SLURM_PTY_PORT" in os.environ or os.environ.get("SLURM_JOB_NAME") in _INTERACTIVE
    return "SLURM_STEP_ID" in os.environ and not typed


@functools.cache
def _what_the_first_says() -> datetime:
    """The time in the first of torchrun's processes when it was first asked for."""
    from torch.distributed import rendezvous

    store, rank, _ = next(rendezvous("env://"))
    if rank == 0:
        store.set("lit_ghibli/started", datetime.now().isoformat())
    return datetime.fromisoformat(store.get("lit_ghibli/started").decode())
