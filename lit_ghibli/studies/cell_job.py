"""What a job of a scheduler's does: one cell of a study, from where an earlier job of it was cut off."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_ghibli import cluster
from lit_ghibli.errors import UserError
from lit_ghibli.studies.ledger import FILE, CellLedger, Entry, read_ledger
from lit_ghibli.studies.runner import Runner, Step
from lit_ghibli.studies.schedulers import own_job

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

_GRACE = 600.0  # seconds in which SLURM ends a job of which it has said so


@dataclass
class CellJob:
    """A function without arguments that runs what is left of a cell, and writes down in ``cell.json`` how far it is.

    It does nothing where the study's ledger has no such attempt any more. At a signal of the scheduler's, the training
    saves first, and the job is requeued.

    Attributes:
        folder: The study's.
        key: Hash of the cell.
        entry: The cell's, with the attempt that this is.
        plan: As of :class:`~lit_ghibli.studies.runner.Runner`.
        threads: Of torch, for each process; None leaves that to the scheduler.
    """

    folder: Path
    key: str
    entry: Entry
    plan: Callable[[Entry, Path], Iterable[Step]]
    threads: int | None

    def __call__(self) -> None:
        """Run it."""
        with contextlib.suppress(OSError):  # as SLURM may have done
            os.setsid()  # a terminal that is closed is of no concern
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGHUP})
        if self.threads is not None:
            os.environ.setdefault("OMP_NUM_THREADS", str(self.threads))
        ledger = CellLedger(self.folder, self.key, self.entry)
        runner = Runner(ledger, self.plan, lambda *_: None, jobs=1, begins=lambda _: self._begin(ledger))
        announced: list[int] = []

        def save(number: int, frame: Any) -> None:
            announced.append(number)
            if not runner.stopped:
                runner.stop(number, frame)

        handlers = {number: signal.signal(number, save) for number in cluster.REQUEUE_SIGNALS}
        keys = iter([self.key, None])
        runner.run(lambda: next(keys), lambda _: None)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if not runner.stopped or ledger.entries[self.key].ended or not self._is_wanted():
            return
        if announced:
            cluster.requeue(handlers)
        elif cluster.ends_jobs_itself():  # and may requeue it, unless it is over by then
            time.sleep(_GRACE)

    def checkpoint(self) -> "DelayedSubmission":
        """What submitit starts when the job is requeued."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _begin(self, ledger: CellLedger) -> bool:
        """Whether the cell is still this job's, which then goes on where any job before has left it."""
        if not self._is_wanted():
            print("another job has been given the cell, or none: there is nothing to do", flush=True)
            return False
        entry = ledger.read() or self.entry
        entry.attempt, entry.job = self.entry.attempt, own_job()
        ledger.entries[self.key] = entry
        ledger.save()
        return True

    def _is_wanted(self) -> bool:
        with contextlib.suppress(UserError):  # nobody takes the cell from it
            return read_ledger(self.folder / FILE)[0][self.key].attempt == self.entry.attempt
        return True
