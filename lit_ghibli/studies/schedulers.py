"""Who starts the cells of a study as jobs: SLURM, or this machine, both through submitit."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_ghibli.errors import UserError
from lit_ghibli.locks import began

if TYPE_CHECKING:  # so that --help answers at once
    from submitit import AutoExecutor, Job

FOLDER = "jobs"  # of a study's, with the scripts and the output of jobs

CANCELLED, OUT_OF_MEMORY = "CANCELLED", "OUT_OF_MEMORY"  # SLURM's words for how a job ended
_ENDS = {CANCELLED, OUT_OF_MEMORY, "COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "DEADLINE", "REVOKED"}
_LAST_LINES = 15  # of a job's output that tell why it failed


class Scheduler:
    """Starts jobs, says which are over, and ends them.

    A job's name is the scheduler's and what that calls the job, such as ``slurm 4711_3``.

    Args:
        folder: The study's.
        settings: ``launcher`` of a configuration.
        jobs: How many may run at once.

    Attributes:
        name: The first word of its jobs' names.
        ahead: How many jobs it takes at once of which it lets so many run; 0 if it runs at once all that it is given.
        seconds: From one question after jobs to the next.

    Raises:
        UserError: It does not take these settings, or is not to be had on this machine.
    """

    name: str
    ahead = 0
    seconds = 0.5

    def __init__(self, folder: Path, settings: Mapping[str, Any], jobs: int) -> None:
        self.folder, self.jobs = folder.resolve() / FOLDER, jobs
        with _as_user_errors():
            self._executor = self._make(settings)

    def submit(self, tasks: Sequence[Callable[[], None]]) -> list[str]:
        """Start a job for each task, which can be pickled; their names.

        Raises:
            UserError: The scheduler refuses.
        """
        with _as_user_errors(), _signals_kept():
            with self._executor.batch():
                jobs = [self._executor.submit(task) for task in tasks]
            return [self._name(job) for job in jobs]

    def ended(self, jobs: Sequence[str]) -> dict[str, str]:
        """Those of these jobs that are over, and the scheduler's word for how; empty where it has none."""
        raise NotImplementedError

    def cancel(self, jobs: Sequence[str]) -> None:
        """Ask jobs to save and end."""
        raise NotImplementedError

    def gave_up(self, job: str) -> bool:
        """Whether a job that is over was ended by an error of its own."""
        result = self.folder / f"{self._number(job)}_0_result.pkl"
        # Without unpickling what anybody may have put there.
        return result.is_file() and b"error" in result.read_bytes()[:64]

    def last_lines(self, job: str) -> list[str]:
        """The last lines of what a job has said on standard error."""
        with contextlib.suppress(OSError):
            text = (self.folder / f"{self._number(job)}_0_log.err").read_text(encoding="utf-8", errors="replace")
            return [line.rstrip() for line in text.splitlines() if line.strip()][-_LAST_LINES:]
        return []

    def _make(self, settings: Mapping[str, Any]) -> "AutoExecutor":
        raise NotImplementedError

    def _name(self, job: "Job") -> str:
        return f"{self.name} {job.job_id}"

    @staticmethod
    def _number(job: str) -> str:
        return job.split()[1]


class Slurm(Scheduler):
    """Jobs of SLURM's, several of them as an array."""

    name = "slurm"
    ahead = 1000  # the longest array that SLURM takes if nobody has set another
    seconds = 10.0

    def ended(self, jobs: Sequence[str]) -> dict[str, str]:
        """By ``squeue``, which keeps those that are over for some minutes; nothing where it does not answer."""
        command = ["squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i %T"]
        try:
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        except (OSError, subprocess.CalledProcessError):  # a controller that is down for a while
            return {}
        states = dict(line.split()[:2] for line in said.splitlines() if line.strip())
        ends = {job: states.get(self._number(job), "") for job in jobs}
        return {job: state for job, state in ends.items() if not state or state in _ENDS}

    def cancel(self, jobs: Sequence[str]) -> None:
        """By ``scancel``."""
        subprocess.run(["scancel", *map(self._number, jobs)], check=False, capture_output=True)

    def _make(self, settings: Mapping[str, Any]) -> "AutoExecutor":
        from submitit import AutoExecutor

        if shutil.which("sbatch") is None:
            raise UserError("launcher=slurm: there is no sbatch here; type it where jobs are submitted")
        executor = AutoExecutor(self.folder, cluster=self.name, slurm_max_num_timeout=settings["requeues"])
        executor.update_parameters(
            name="lit_ghibli",
            nodes=1,
            tasks_per_node=1,
            gpus_per_node=settings["gpus"],
            cpus_per_task=settings["cpus"],
            mem_gb=settings["memory"],
            timeout_min=settings["minutes"],
            slurm_signal_delay_s=settings["notice"],
            slurm_array_parallelism=self.jobs,
            **{f"slurm_{key}": settings[key] for key in ("partition", "account") if settings[key] is not None},
        )
        return executor


class Local(Scheduler):
    """Processes of this machine, which outlive the program that started them, and its terminal."""

    name = "local"

    def ended(self, jobs: Sequence[str]) -> dict[str, str]:
        """Those whose processes do not run."""
        return {job: "" for job in jobs if not self._runs(job)}

    def cancel(self, jobs: Sequence[str]) -> None:
        """By SIGTERM."""
        for job in filter(self._runs, jobs):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(self._number(job)), signal.SIGTERM)

    def _make(self, settings: Mapping[str, Any]) -> "AutoExecutor":
        from submitit import AutoExecutor

        executor = AutoExecutor(self.folder, cluster=self.name)
        executor.update_parameters(tasks_per_node=1, gpus_per_node=settings["gpus"], timeout_min=settings["minutes"])
        return executor

    def _name(self, job: "Job") -> str:
        return f"{self.name} {job.job_id} {began(int(job.job_id))}"  # a number may be used again

    def _runs(self, job: str) -> bool:
        _, number, since = job.split()
        return began(int(number)) == since


def own_job() -> str:
    """The name of the job that this process is."""
    from submitit import JobEnvironment

    environment = JobEnvironment()
    since = [began(int(environment.job_id))] if environment.cluster == Local.name else []
    return " ".join([environment.cluster, environment.job_id, *since])


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Keep what a terminal sends from the processes that the block starts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _as_user_errors() -> Iterator[None]:
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        yield
    except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError, RuntimeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UserError(f"the cluster took no job: {lines[-1]}") from error
