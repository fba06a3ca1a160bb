"""What a run knows of the scheduler that started it: SLURM, with or without submitit, or submitit on one machine."""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lit_ghibli import checkpoints
from lit_ghibli.errors import UserError

REQUEUE_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)  # of plain SLURM scripts by convention, and of submitit


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


def own_checkpoint(run: str | Path) -> Path | None:
    """The last checkpoint in a run's folder if this very job wrote it before it was requeued.

    What another job or a person has left there is not gone on with: a fresh run replaces it.

    Raises:
        CheckpointError: The file is damaged.
    """
    last = Path(run) / "checkpoints" / "last.ckpt"
    if job() is None or not _may_be_requeued() or not last.is_file():
        return None
    return last if checkpoints.load(last, mmap=True).get("job") == job() else None


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


def _may_be_requeued() -> bool:
    """Whether this job may have run before; submitit's local executor does not say."""
    if os.environ.get("SUBMITIT_EXECUTOR") == "local":
        return True
    return int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0
