"""Runs the cells of a study as jobs of a scheduler's, which need no program that waits for them."""

import copy
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from lit_ghibli.errors import UserError, say
from lit_ghibli.signals import leave_terminal, stop_signals
from lit_ghibli.studies.cell_job import CellJob
from lit_ghibli.studies.ledger import CellLedger, Entry, Ledger
from lit_ghibli.studies.runner import Step
from lit_ghibli.studies.schedulers import CANCELLED, OUT_OF_MEMORY, Scheduler

_LOSSES = 3  # jobs in a row that end without a word and without a new checkpoint: the next would do so, too


class _Job(NamedTuple):
    """A job under way: its name, the attempt that it is, and when there was last a checkpoint as it was submitted."""

    name: str
    attempt: str
    saved: int


class Launcher:
    """Has one job after the other submitted until no cell is left; keeps the ledger.

    A job that was cut off is submitted again and goes on where it saved. If this program is killed, jobs go on, and the
    next one takes them over; a stop (Ctrl-C, SIGTERM, a closed terminal) ends them, when they have saved.

    Args:
        ledger: Of the study.
        plan: Gives what :class:`~lit_ghibli.studies.cell_job.CellJob` takes, which can be pickled, for an entry.
        collect: Reads the results of a finished cell from its folder into its entry.
        jobs: How many run at the same time.
        scheduler: Of the jobs.
        ahead: Whether it may be given more than that, if it lets no more run.
    """

    def __init__(
        self,
        ledger: Ledger,
        plan: Callable[[Entry], Callable[[Entry, Path], Iterable[Step]]],
        collect: Callable[[Entry, Path], None],
        jobs: int,
        scheduler: Scheduler,
        ahead: bool,
    ) -> None:
        self.ledger, self.plan, self.collect, self.jobs = ledger, plan, collect, jobs
        self.scheduler, self._ahead = scheduler, scheduler.ahead if ahead else 0
        self._under_way: dict[str, _Job] = {}
        self._again: list[str] = []
        self._losses: dict[str, int] = {}
        self._stops, self._woken = 0, threading.Event()

    @property
    def stopped(self) -> bool:
        """Whether somebody has asked for that."""
        return self._stops > 0

    def run(self, take: Callable[[], str | None], report: Callable[[str], None]) -> None:
        """Work until ``take`` gives no more cells, or until a stop.

        Args:
            take: The hash of the next cell, None at the end.
            report: Is told of each cell that ended.

        Raises:
            UserError: The scheduler takes no jobs.
        """
        handlers = {number: signal.signal(number, self._stop) for number in stop_signals()}
        cancelled = False
        try:
            while True:
                if not self.stopped:
                    self._submit(take)
                elif not cancelled:
                    cancelled = True
                    self._cancel()
                if not self._under_way or self._stops > 1:
                    break
                ended = self.scheduler.ended([job.name for job in self._under_way.values()])
                for key in [key for key, job in self._under_way.items() if job.name in ended]:
                    job = self._under_way.pop(key)
                    self._settle(key, job, ended[job.name], report)
                if not ended:
                    self._woken.wait(self.scheduler.seconds)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if self._under_way:
            names = ", ".join(job.name for job in self._under_way.values())
            say(f"not waited for, and asked to save and end: {names}")

    def _submit(self, take: Callable[[], str | None]) -> None:
        """Submit as many jobs as there is room for, and take over those that an earlier program has submitted."""
        most = self.jobs if self._under_way else max(self.jobs, self._ahead)
        new: list[str] = []
        while len(self._under_way) + len(new) < most:
            key = self._again.pop(0) if self._again else take()
            if key is None:
                break
            entry = self.ledger.entries[key]
            if entry.attempt and (said := self._said(key, entry.attempt)):
                entry.take_over(said)
            if entry.job is not None and entry.job.startswith(f"{self.scheduler.name} "):
                self._under_way[key] = _Job(entry.job, entry.attempt, self._saved(entry))
            else:
                new.append(key)
        if not new:
            return
        for key in new:
            entry = self.ledger.entries[key]
            entry.state, entry.attempt, entry.job = "waiting", secrets.token_hex(6), None
            CellLedger(self.ledger.folder, key, entry).save()
        self.ledger.save()  # before the jobs look into it
        names = self.scheduler.submit([self._job(key) for key in new])
        for key, name in zip(new, names, strict=True):
            entry = self.ledger.entries[key]
            entry.job = name
            self._under_way[key] = _Job(name, entry.attempt, self._saved(entry))
        self.ledger.save()
        for key, name in zip(new, names, strict=True):
            say(f"{self.ledger.entries[key].name}: {' '.join(name.split()[:2])}")

    def _job(self, key: str) -> CellJob:
        entry = self.ledger.entries[key]
        threads = None if self.scheduler.ahead or self.jobs == 1 else max((os.cpu_count() or 1) // self.jobs, 1)
        return CellJob(self.ledger.folder.resolve(), key, copy.deepcopy(entry), self.plan(entry), threads)

    def _settle(self, key: str, job: _Job, how: str, report: Callable[[str], None]) -> None:
        """Take over what came of a job that is over."""
        with self.ledger.change(key) as entry:
            if said := self._said(key, job.attempt):
                entry.take_over(said)
                entry.state, entry.error = said.state, said.error
            entry.job, entry.attempt = None, ""
            if entry.state == "done":
                try:
                    self.collect(entry, self.ledger.folder / entry.folder)
                except UserError as error:
                    entry.state, entry.error = "failed", [str(error)]
            elif entry.state != "failed":
                self._lose(key, job, how)
        if key not in self._again:
            report(key)

    def _lose(self, key: str, job: _Job, how: str) -> None:
        """Decide what becomes of a cell whose job is over and has not ended it."""
        entry, told = self.ledger.entries[key], how.lower().replace("_", " ") or "killed"
        self._losses[key] = self._losses.get(key, 0) + 1 if self._saved(entry) == job.saved else 1
        if entry.state == "running":
            entry.state = "interrupted"
        if self.stopped or how == CANCELLED:
            return
        if how == OUT_OF_MEMORY:
            entry.state, entry.error = "failed", ["its job was killed as memory ran out: give it launcher.memory=GB"]
        elif self.scheduler.gave_up(job.name) or self._losses[key] == _LOSSES:
            why = self.scheduler.last_lines(job.name)
            entry.state, entry.error = "failed", [*why, f"{job.name}: its job ended ({told}) and left nothing new"]
        else:
            self._again.append(key)
            say(f"{entry.name}: its job ended ({told}) and is submitted again")

    def _cancel(self) -> None:
        """End all jobs of the ledger's, also those of an earlier program that were not taken over yet."""
        for key, entry in self.ledger.entries.items():
            if entry.job is not None and entry.job.startswith(f"{self.scheduler.name} "):
                self._under_way.setdefault(key, _Job(entry.job, entry.attempt, self._saved(entry)))
                entry.attempt = ""  # so that what begins only now ends at once
        self.ledger.save()
        if self._under_way:
            self.scheduler.cancel([job.name for job in self._under_way.values()])

    def _stop(self, number: int, frame: Any) -> None:
        if number == signal.SIGHUP:
            leave_terminal()
        self._stops += 1
        print(
            "\nstopping: jobs save and end first (again not to wait for that)" if self._stops == 1 else "", flush=True
        )
        self._woken.set()

    def _said(self, key: str, attempt: str) -> Entry | None:
        """What the job of this attempt has written down of a cell."""
        said = CellLedger(self.ledger.folder, key, self.ledger.entries[key]).read()
        return said if said is not None and said.attempt == attempt else None

    def _saved(self, entry: Entry) -> int:
        last = self.ledger.folder / entry.folder / "checkpoints" / "last.ckpt"
        return last.stat().st_mtime_ns if last.is_file() else 0
