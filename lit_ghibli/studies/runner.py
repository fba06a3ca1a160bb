"""Runs the cells of a study, each step of each in a process of its own."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lit_ghibli.cluster import without_job
from lit_ghibli.errors import UserError, say
from lit_ghibli.locks import RUN, Lock, wait_for
from lit_ghibli.reports.tables import duration, format_value
from lit_ghibli.signals import leave_terminal, stop_signals
from lit_ghibli.studies.ledger import CellLedger, Entry, Ledger
from lit_ghibli.studies.preloaded import Forked, Preloaded

LOG = "cell.log"
LOCK = "cell.lock"

_IMPORTS = 300.0  # seconds after which nobody waits for them any longer, on the slowest of file systems
_LAST_LINES = 15  # of a log that tell why a cell failed
_NEWS = re.compile(r"epoch \d+/|[\d.]+ s per iteration")  # lines of a training that say how far it is


class Step(NamedTuple):
    """A part of a cell's work.

    Attributes:
        name: Such as ``train``.
        words: What `lit-ghibli` is given.
    """

    name: str
    words: list[str]


class Runner:
    """Takes one cell after the other until none is left; keeps the ledger.

    A stop (Ctrl-C, SIGTERM, a closed terminal) is passed on to the processes, whose trainings save first; a second one
    kills them. What was cut off goes on where it was saved. A process that outlives a killed sweep is waited for.

    Args:
        ledger: Of the study.
        plan: Says which steps a cell takes, one after the other; called with its entry and its folder.
        collect: Reads the results of a finished cell from its folder into its entry.
        jobs: How many cells run at the same time.
        begins: Is told the hash of a cell that nobody else works on any more; whether to begin with it.
        preload: Fork the processes from one that has imported everything, where that is safe: on Linux. It pays from
            the second process on.
    """

    def __init__(
        self,
        ledger: Ledger | CellLedger,
        plan: Callable[[Entry, Path], Iterable[Step]],
        collect: Callable[[Entry, Path], None],
        jobs: int,
        begins: Callable[[str], bool] = lambda _: True,
        preload: bool = False,
    ) -> None:
        self.ledger, self.plan, self.collect, self.jobs, self.begins = ledger, plan, collect, jobs, begins
        self.stopped = False
        self._broken: list[BaseException] = []
        self._processes: set[subprocess.Popen | Forked] = set()
        cores = max((os.cpu_count() or 1) // jobs, 1)
        shared = {"OMP_NUM_THREADS": str(cores)} if jobs > 1 else {}  # unless somebody has said otherwise
        self._environment = {**shared, **without_job(os.environ)}
        self._preload, self._preloaded = preload and sys.platform == "linux", None

    def run(self, take: Callable[[], str | None], report: Callable[[str], None]) -> None:
        """Work until ``take`` gives no more cells, or until a stop.

        Args:
            take: The hash of the next cell, None at the end; called by one thread at a time.
            report: Is told of each cell that ended; called by one thread at a time.
        """
        mutex = threading.Lock()

        def work() -> None:
            try:
                while not self._ending():
                    with mutex:
                        key = take()
                        if key is not None and self._preload and self._preloaded is None:
                            self._preloaded = Preloaded(self._environment)
                    if key is None:
                        return
                    self._run_cell(key)
                    with mutex:
                        report(key)
            except BaseException as error:  # is raised where people see it, once the others have saved
                self._broken.append(error)
                self._signal(signal.SIGTERM)

        handlers = {number: signal.signal(number, self.stop) for number in stop_signals()}
        try:
            threads = [threading.Thread(target=work) for _ in range(self.jobs)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            if self._preloaded:
                self._preloaded.close()
        if self._broken:
            raise self._broken[0]

    def _run_cell(self, key: str) -> None:
        entry = self.ledger.entries[key]
        folder = self.ledger.folder / entry.folder
        folder.mkdir(parents=True, exist_ok=True)

        def tell(who: str) -> None:
            say(f"{entry.name}: {who} may still be at work here, and is waited for")

        if (lock := wait_for(folder / LOCK, self._ending, tell)) is None:
            return
        with lock:
            # A training may have lost who started it.
            if (left := wait_for(folder / RUN, self._ending, tell)) is None:
                return
            left.release()
            if not self.begins(key):
                return
            entry = self.ledger.entries[key]
            self._count_what_was_cut_off(key, folder)
            for step in self.plan(entry, folder):
                (folder / LOG).touch()  # so that its time is of the clock that those of checkpoints are of
                with self.ledger.change(key):
                    entry.state, entry.under_way, entry.error = "running", (step.name, _time_of(folder / LOG)), []
                since = time.monotonic()
                status = self._run_step(entry, step, folder, lock)
                with self.ledger.change(key):
                    _spend(entry, time.monotonic() - since)
                    if status == 0:
                        entry.finished.append(step.name)
                    elif self._ending():
                        entry.state = "interrupted"
                    else:
                        entry.state, entry.error = "failed", _why(folder / LOG, status)
                if status:
                    return
            with self.ledger.change(key):
                entry.state = "done"
                try:
                    self.collect(entry, folder)
                except UserError as error:
                    entry.state, entry.error = "failed", [str(error)]

    def _count_what_was_cut_off(self, key: str, folder: Path) -> None:
        """Add the time until the last checkpoint of a step that a killed sweep had begun: the rest is done again."""
        entry = self.ledger.entries[key]
        if entry.under_way is not None:
            last = folder / "checkpoints" / "last.ckpt"
            with self.ledger.change(key):
                _spend(entry, _time_of(last) - entry.under_way[1] if last.is_file() else 0.0)

    def _run_step(self, entry: Entry, step: Step, folder: Path, lock: Lock) -> int:
        """The exit status of one process, whose output goes to the cell's log and whose news are printed."""
        with open(folder / LOG, "a", encoding="utf-8") as log, open(folder / LOG, encoding="utf-8") as lines:
            print(f"$ lit-ghibli {' '.join(step.words)}", file=log, flush=True)
            lines.seek(0, os.SEEK_END)
            process = self._start(step.words, folder / LOG)
            lock.holds_for(process.pid)  # even if this program is killed
            self._processes.add(process)
            if self._ending():  # between the last look at it and now
                process.send_signal(signal.SIGTERM)
            while process.returncode is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=1)
                for line in lines:  # that a training has said since the last look
                    if said := news(line):
                        say(f"  {entry.name}: {said}")
            self._processes.discard(process)
            lock.holds_for(None)
        return process.returncode

    def _start(self, words: list[str], log: Path) -> subprocess.Popen | Forked:
        """A process that this program's Ctrl-C does not reach but through it, once."""
        if self._preloaded and self._preloaded.is_ready(_IMPORTS):
            with contextlib.suppress(OSError):  # it has been killed: then without
                return self._preloaded.start({"words": words, "out": str(log), "err": str(log)})
        with open(log, "a", encoding="utf-8") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "lit_ghibli", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )

    def stop(self, number: int, frame: Any) -> None:
        """Pass a stop on to what runs, and begin nothing new; the second time, kill what runs."""
        if number == signal.SIGHUP:
            leave_terminal()
        again, self.stopped = self.stopped, True
        print("\nkilling what runs" if again else "\nstopping: what runs is saved first (again to kill it)", flush=True)
        # To a training that SLURM has sent a signal, too, a second SIGINT would be one to stop at once.
        self._signal(signal.SIGKILL if again else signal.SIGTERM)

    def _signal(self, number: int) -> None:
        """Send a signal to what runs; a killed training takes its further processes with it."""
        for process in list(self._processes):
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if number == signal.SIGKILL else os.kill)(process.pid, number)

    def _ending(self) -> bool:
        """Whether no new work is to be begun."""
        return self.stopped or bool(self._broken)


def news(line: str) -> str:
    """What a line of a training says of how far it is; empty of any other line."""
    return line.split(" | ")[0].strip() if _NEWS.match(line) else ""


def progress(entry: Entry, entries: Sequence[Entry], total: int, jobs: int) -> str:
    """One line about a cell that has ended, and about those that are left if they take as long as those done.

    Args:
        entry: The cell's.
        entries: All so far.
        total: How many there will be.
        jobs: How many run at the same time.
    """
    ended = sum(each.ended for each in entries)
    took = duration(sum(entry.seconds.values()))
    parts = [f"[{ended}/{total}] {entry.name}: {entry.state} in {took}"]
    if entry.metrics:
        parts.append(" ".join(f"{name}={format_value(value)}" for name, value in entry.metrics.items()))
    done = [sum(each.seconds.values()) for each in entries if each.state == "done"]
    if done and total > ended:
        parts.append(f"about {duration((total - ended) * sum(done) / len(done) / jobs)} to go")
    return " | ".join(parts)


def _spend(entry: Entry, seconds: float) -> None:
    """Count what was spent on the step under way, which is so no longer."""
    name, _ = entry.under_way
    entry.seconds[name] = entry.seconds.get(name, 0.0) + max(seconds, 0.0)
    entry.under_way = None


def _time_of(path: Path) -> float:
    return path.stat().st_mtime


def _why(log: Path, status: int) -> list[str]:
    """The last lines of a failed process, and how it ended."""
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line.rstrip() for line in text.splitlines() if line.strip()][-_LAST_LINES:]
    if status >= 0:
        return [*lines, f"exit status {status}"]
    return [*lines, f"killed by {signal.Signals(-status).name}" + ", as happens when memory runs out" * (status == -9)]
