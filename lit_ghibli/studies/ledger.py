"""What a study has done so far, on disk after every change."""

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal

from lit_ghibli.documents import DocumentError, read_json
from lit_ghibli.errors import UserError, say
from lit_ghibli.files import remove_partials, write_atomically
from lit_ghibli.locks import Taken, take

FILE = "ledger.json"
LOCK = "sweep.lock"
CELL = "cell.json"  # in the folder of a cell

_LONGEST = 1e10  # seconds that a cell may have taken: three centuries

_Forecast = {"seconds_per_iteration": float, "host_peak_mib": float | None, "total_seconds": float}


@dataclass
class Entry:
    """What is known of one cell.

    Attributes:
        name: What people call it.
        levels: Label of the level by factor.
        overrides: What its command is given.
        folder: Where it works, relative to the study's.
        state: ``running`` in a ledger that nobody works on means that it was cut off.
        finished: Steps that need not be done again, such as ``train``.
        seconds: Spent on each step so far, in all attempts.
        under_way: The step that has begun and not ended, and when it began, in seconds since 1970; or None.
        evaluated_by: Overrides of the evaluation that is finished; None before.
        metrics: Results by name.
        reference: Those of the untouched inputs, where they are measured as well.
        checkpoint: The last one, relative to the study's folder.
        error: Last lines of a cell that failed.
        job: The scheduler's, that works on the cell or is to do so; see :mod:`lit_ghibli.studies.schedulers`.
        attempt: Which job may work on the cell: that was given this word when it was submitted.
    """

    name: str
    levels: dict[str, str]
    overrides: list[str]
    folder: str
    state: Literal["waiting", "running", "done", "pruned", "failed", "interrupted"] = "waiting"
    finished: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    under_way: tuple[str, float] | None = None
    evaluated_by: list[str] | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    reference: dict[str, float | None] = field(default_factory=dict)
    checkpoint: str | None = None
    error: list[str] = field(default_factory=list)
    job: str | None = None
    attempt: str = ""

    def __post_init__(self) -> None:
        """Refuse places outside of the study's folder, that folder itself, and times that nobody has.

        Raises:
            ValueError: A ledger from elsewhere names one.
        """
        for path in (self.folder, *([] if self.checkpoint is None else [self.checkpoint])):
            parts = PurePath(path).parts
            if PurePath(path).is_absolute() or ".." in parts or not parts or "\0" in path:
                raise ValueError(f"{path!r} is no place in the study's folder")
        if not all(0 <= seconds < _LONGEST for seconds in self.seconds.values()):
            raise ValueError(f"seconds must be 0 ... {_LONGEST:.0e}; got {self.seconds}")

    def take_over(self, said: "Entry") -> None:
        """Take over what a job has done of the cell, but not what came of it."""
        self.finished, self.seconds, self.under_way = said.finished, said.seconds, said.under_way
        self.evaluated_by, self.job = said.evaluated_by, said.job or self.job  # which it says once it has begun

    @property
    def ended(self) -> bool:
        """Whether something has come of the cell, for better or worse."""
        return self.state in ("done", "pruned", "failed")


class Ledger:
    """Entries by the hash of their configuration, in ``ledger.json`` of a folder, for one program at a time.

    Use it in a ``with`` statement.

    Args:
        folder: The study's.

    Attributes:
        entries: Change them within :meth:`change` only.
        forecasts: What cells will cost, by their overrides.

    Raises:
        UserError: Another program works in this folder, or the file is no ledger.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / FILE
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock = take(folder / LOCK, lambda who: say(f"{folder}: looking whether {who} still sweeps here"))
        except Taken as error:
            raise UserError(
                f"{folder}: another `lit-ghibli sweep` is at work here, {error} wait for it, see how far it is with "
                "--status, or give --out FOLDER"
            ) from error
        remove_partials(folder)
        self._mutex = threading.RLock()
        self.entries: dict[str, Entry] = {}
        self.forecasts: dict[str, dict[str, Any]] = {}
        if self.path.is_file():
            try:
                self.entries, self.forecasts = read_ledger(self.path)
            except UserError:
                self._lock.release()
                raise

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        """Let other programs work in the folder."""
        self._lock.release()

    @contextlib.contextmanager
    def change(self, key: str) -> Iterator[Entry]:
        """The entry of ``key``, which other threads leave alone meanwhile, and which is on disk afterwards."""
        with self._mutex:
            yield self.entries[key]
            self.save()

    def save(self) -> None:
        """Write the file atomically: a reader sees the old one or the new one, also after a power cut.

        Raises:
            UserError: Another program has taken the folder over, as while this machine slept.
        """
        with self._mutex:
            try:
                self._lock.check()
            except Taken as error:
                raise UserError(f"{self.folder}: taken over by {error} while this one gave no sign of life") from error
            entries = {key: asdict(entry) for key, entry in self.entries.items()}
            with write_atomically(self.path, encoding="utf-8") as file:
                json.dump({"cells": entries, "forecasts": self.forecasts}, file, indent=1)


def read_ledger(path: Path) -> tuple[dict[str, Entry], dict[str, dict[str, Any]]]:
    """Entries and forecasts of a ledger, which another program may be working with.

    Raises:
        UserError: It is none.
    """
    try:
        written = read_json(path, {"cells": dict[str, Entry], "forecasts": dict[str, _Forecast]})
    except DocumentError as error:
        raise UserError(f"{error}: no ledger of this version; move it away to begin anew") from error
    return written["cells"], written["forecasts"]


def count_states(entries: Iterable[Entry], total: int) -> str:
    """How many cells, of so many, have come to what."""
    counts = Counter(entry.state for entry in entries)
    done = counts.pop("done", 0)
    return ", ".join([f"{done} of {total} done", *(f"{count} {state}" for state, count in counts.items())])


class CellLedger:
    """The entry of one cell, in ``cell.json`` of its folder: what a job writes, and who has submitted it reads.

    Args:
        folder: The study's.
        key: Of the cell.
        entry: As it is known; what the cell's file says takes its place where :meth:`read` is called.
    """

    def __init__(self, folder: Path, key: str, entry: Entry) -> None:
        self.folder, self.entries, self._key = folder, {key: entry}, key
        self._path = folder / entry.folder / CELL

    def read(self) -> Entry | None:
        """What the cell's file says; None where there is none, or it is damaged."""
        with contextlib.suppress(DocumentError):
            return read_json(self._path, Entry)
        return None

    def save(self) -> None:
        """Write the cell's file."""
        with write_atomically(self._path, encoding="utf-8") as file:
            json.dump(asdict(self.entries[self._key]), file, indent=1)

    @contextlib.contextmanager
    def change(self, key: str) -> Iterator[Entry]:
        """As of :class:`Ledger`."""
        yield self.entries[key]
        self.save()
